"""minipod run FILE: a manifest to its end."""

from __future__ import annotations

import threading
from typing import Any

import click

from minipod.cli import options
from minipod.cli.apply import apply_object
from minipod.cli.client import Client
from minipod.cli.delete import delete_all
from minipod.cli.logs import stream
from minipod.errors import FailedPrecondition, MinipodError


@click.command("run")
@click.argument("file")
@options.namespace_option
@click.option("--lenient", is_flag=True, help="Warn about fields that are not supported.")
@click.option("--keep", is_flag=True, help="Leave the pod behind when it has ended.")
@click.pass_context
def command(ctx: click.Context, file: str, namespace: str, lenient: bool, keep: bool) -> int:
    """Apply FILE, follow events and logs until its pod ends; exit with the pod's code. Ctrl-C ends the pod gracefully."""
    from minipod.daemon.node import node_status, start_node

    instance = options.instance(ctx)
    pods = [o for o in options.load_manifests([file]) if o["kind"] == "Pod"]
    if len(pods) != 1:
        raise FailedPrecondition(
            f"{file}: run takes one pod, found {len(pods)}",
            hint="minipod apply -f takes any number",
        )
    if not node_status(instance)["running"]:
        start_node(instance)
        click.echo(
            f"node {instance.name} was started, and stays up (minipod down stops it)", err=True
        )
    client = options.client(ctx)
    pod, what = apply_object(client, pods[0], namespace, lenient=lenient)
    name, space = pod["metadata"]["name"], pod["metadata"]["namespace"]
    click.echo(f"pod/{name} {what}", err=True)
    try:
        ended = follow(client, space, name)
    except KeyboardInterrupt:
        click.echo("ending the pod; again to leave it", err=True)
        delete_all(client, [("pods", space, name)], -1, wait=True, ignore=True, quiet=True)
        return 130
    code = exit_code(ended)
    if not keep:
        delete_all(client, [("pods", space, name)], -1, wait=True, ignore=True, quiet=True)
    return code


def follow(client: Client, namespace: str, name: str) -> dict[str, Any]:
    """Print events and logs until the pod has ended; return it as it was then."""
    threading.Thread(target=_events, args=(client, namespace, name), daemon=True).start()
    readers: dict[tuple[str, str], threading.Thread] = {}
    query = {"fieldSelector": f"metadata.name={name}", "resourceVersion": "0"}
    for event in client.watch(client.path("pods", namespace), query):
        pod = event["object"]
        status = pod.get("status", {})
        for one in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
            key = (one["name"], one.get("containerID", ""))
            if key[1] and key not in readers:
                arguments = (client, namespace, name, one["name"])
                readers[key] = threading.Thread(target=_log, args=arguments, daemon=True)
                readers[key].start()
        if event["type"] == "DELETED" or status.get("phase") in ("Succeeded", "Failed"):
            for reader in readers.values():
                reader.join(5)
            return dict(pod)
    raise FailedPrecondition("the node ended")


def _log(client: Client, namespace: str, name: str, container: str) -> None:
    try:
        stream(client, namespace, name, container, {"follow": True})
    except MinipodError as e:
        click.echo(f"log of {container}: {e.message}", err=True)


def _events(client: Client, namespace: str, name: str) -> None:
    query = {"fieldSelector": f"involvedObject.name={name}", "resourceVersion": "0"}
    try:
        for event in client.watch(client.path("events", namespace), query):
            obj = event["object"]
            if event["type"] != "DELETED" and obj.get("type") == "Warning":
                click.echo(f"{obj['reason']}: {obj['message']}", err=True)
    except (MinipodError, OSError, ValueError):
        return  # the node went away: the watch of the pod tells


def exit_code(pod: dict[str, Any]) -> int:
    """Return the first code that is not 0 among its containers; 1 for a pod that failed otherwise."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    codes = [
        s["state"]["terminated"]["exitCode"] for s in statuses if "terminated" in s.get("state", {})
    ]
    failed = next((c for c in codes if c), 0)
    return failed or (1 if pod.get("status", {}).get("phase") == "Failed" else 0)
