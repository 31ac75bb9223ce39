"""minipod run: a manifest to its end, or an image as a pod (`cli.run_image`)."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Container, Iterator, Sequence
from typing import Any

import click

from minipod.cli import manifests, options, run_image
from minipod.cli.apply import apply_object
from minipod.cli.client import Client
from minipod.cli.delete import delete_all
from minipod.cli.exec import ExecCommand
from minipod.cli.logs import stream
from minipod.errors import FailedPrecondition, MinipodError, Unavailable


@click.command("run", cls=ExecCommand)
@click.argument("target", metavar="FILE | NAME")
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@options.namespace_option
@click.option("--lenient", is_flag=True, help="FILE: warn about fields that are not supported.")
@click.option("--keep", is_flag=True, help="FILE: leave the pod behind when it has ended.")
@click.option("--image", default="", help="NAME: what its container runs; WORDS are its arguments.")
@click.option("--command", "as_command", is_flag=True, help="WORDS replace the image's entrypoint.")
@click.option("--env", multiple=True, metavar="NAME=VALUE")
@click.option("--port", type=int)
@click.option("-l", "--labels", default="", metavar="NAME=VALUE,...", help="Default: run=NAME.")
@click.option("--restart", type=click.Choice(run_image.POLICIES), default="Always")
@click.option("--image-pull-policy", default="")
@click.option("--privileged", is_flag=True)
@click.option("-i", "--stdin", is_flag=True, help="Attach, and pass stdin to the container.")
@click.option("-t", "--tty", is_flag=True, help="Give the container a terminal.")
@click.option("--attach", "attached", is_flag=True, help="Attach, also without -i.")
@click.option("--rm", is_flag=True, help="Delete the pod when the client has seen its end.")
@click.option("-q", "--quiet", is_flag=True)
@click.pass_context
def command(
    ctx: click.Context, /, target: str, words: Sequence[str], namespace: str, **flags: object
) -> int:
    """Run FILE's pod to its end and exit with its code, or --image as pod NAME: minipod run NAME --image=I [-it --rm] [-- WORDS]."""
    argv = (*words, *ctx.meta.get("command", ()))
    if flags["image"]:
        wanted = run_image.wanted(target, argv, flags)
        return run_image.run(_client(ctx), namespace, wanted)
    if argv:
        raise click.UsageError("name an image for that command: minipod run NAME --image=IMAGE")
    return _run_file(
        ctx, target, namespace, lenient=bool(flags["lenient"]), keep=bool(flags["keep"])
    )


def _client(ctx: click.Context) -> Client:
    """Return the node's client; start it first when it does not run."""
    client = options.client(ctx)
    try:
        client.open("GET", "/version").close()
    except (Unavailable, PermissionError):
        from minipod.daemon.node import start_node  # 17 ms with a node's settings

        instance = options.instance(ctx)
        start_node(instance)
        click.echo(
            f"node {instance.name} was started, and stays up (minipod down stops it)", err=True
        )
    return client


def _run_file(ctx: click.Context, file: str, namespace: str, *, lenient: bool, keep: bool) -> int:
    """Apply FILE, follow events and logs until its pod ends; Ctrl-C ends the pod gracefully."""
    if not file.endswith((".yaml", ".yml", ".json")) and file != "-" and not os.path.exists(file):
        raise FailedPrecondition(
            f"{file}: no such file or directory",
            hint=f"to run an image: minipod run NAME --image={file}",
        )
    pods = [o for o in manifests.load([file]) if o["kind"] == "Pod"]
    if len(pods) != 1:
        raise FailedPrecondition(
            f"{file}: run takes one pod, found {len(pods)}",
            hint="minipod apply -f takes any number",
        )
    client = _client(ctx)
    pod, what = apply_object(client, pods[0], namespace, lenient=lenient)
    name, space = pod["metadata"]["name"], pod["metadata"]["namespace"]
    click.echo(f"pod/{name} {what}", err=True)
    try:
        ended = follow(client, space, name)
    except KeyboardInterrupt:
        click.echo("ending the pod; again to leave it", err=True)
        delete_all(client, [("pods", space, name)], -1, wait=True, ignore=True, quiet=True)
        return 130
    code = run_image.exit_code(ended)
    if not keep:
        delete_all(client, [("pods", space, name)], -1, wait=True, ignore=True, quiet=True)
    return code


def follow(
    client: Client, namespace: str, name: str, *, hopeless: Container[str] = ()
) -> dict[str, Any]:
    """Print events and logs until the pod has ended; return it as it was then.

    Raises FailedPrecondition when the node has ended, or a container waits for one of the *hopeless* reasons; KeyboardInterrupt.
    """
    with ended_as_by_ctrl_c():
        return _follow(client, namespace, name, hopeless)


@contextlib.contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that is closed, are KeyboardInterrupt, too: whoever made the pod ends it."""

    def end(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in numbers:  # SIGHUP is ignored under nohup
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _follow(client: Client, namespace: str, name: str, hopeless: Container[str]) -> dict[str, Any]:
    events: threading.Thread | None = None
    readers: dict[tuple[str, str], threading.Thread] = {}
    query = {"fieldSelector": f"metadata.name={name}", "resourceVersion": "0"}
    for event in client.watch(client.path("pods", namespace), query):
        pod = event["object"]
        if events is None:
            arguments = (client, namespace, pod["metadata"]["uid"])
            events = threading.Thread(target=_events, args=arguments, daemon=True)
            events.start()
        status = pod.get("status", {})
        for one in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
            key = (one["name"], one.get("containerID", ""))
            if key[1] and key not in readers:
                which = (client, namespace, name, one["name"])
                readers[key] = threading.Thread(target=_log, args=which, daemon=True)
                readers[key].start()
            waits = one.get("state", {}).get("waiting", {})
            if waits.get("reason") in hopeless:
                raise FailedPrecondition(f"{waits['reason']}: {waits.get('message', '')}")
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


def _events(client: Client, namespace: str, uid: str) -> None:
    """Print the warnings of this very pod, not of one that had its name before."""
    query = {"fieldSelector": f"involvedObject.uid={uid}", "resourceVersion": "0"}
    try:
        for event in client.watch(client.path("events", namespace), query):
            obj = event["object"]
            if event["type"] != "DELETED" and obj.get("type") == "Warning":
                click.echo(f"{obj['reason']}: {obj['message']}", err=True)
    except (MinipodError, OSError, ValueError):
        return  # the node went away: the watch of the pod tells
