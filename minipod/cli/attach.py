"""minipod attach: a running container's output from now on, and its stdin."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import click

from minipod.cli import options
from minipod.cli.channels import run_channels
from minipod.cli.client import Client, Object
from minipod.cli.logs import stream
from minipod.errors import FailedPrecondition, NotFound

STATUSES = ("containerStatuses", "ephemeralContainerStatuses")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A container of a pod, and how one talks to it."""

    namespace: str
    pod: str
    container: str
    stdin: bool
    tty: bool


@click.command("attach")
@click.argument("pod", shell_complete=options.complete_names)
@options.namespace_option
@click.option("-c", "--container", default="")
@click.option("-i", "--stdin", is_flag=True, help="Pass stdin to the container.")
@click.option(
    "-t", "--tty", is_flag=True, help="Our terminal is the container's (it must have one)."
)
@click.pass_context
def command(
    ctx: click.Context, pod: str, namespace: str, container: str, stdin: bool, tty: bool
) -> int:
    """Follow a running container's output, and write to its stdin."""
    tty = options.terminal(tty)
    client = options.client(ctx)
    name = options.pod_name(pod)
    container = options.container(client, namespace, name, container)
    return attach(client, namespace, name, container, stdin=stdin, tty=tty)


def attach(
    client: Client, namespace: str, pod: str, container: str, *, stdin: bool, tty: bool
) -> int:
    """Attach until the container ends; return 0, or 1 when the connection ended badly."""
    flags = {"stdin": stdin, "stdout": True, "stderr": not tty, "tty": tty}
    query = [("container", container), *((k, str(v).lower()) for k, v in flags.items())]
    path = client.path("pods", namespace, pod, "attach")
    return run_channels(client.instance.api_socket, path, query, stdin=stdin, tty=tty)


def talk(client: Client, place: Place) -> int:
    """Talk to it once it runs. Without stdin its log is followed instead: that has what it said before, too."""
    state = await_started(client, place)
    if "terminated" in state or not place.stdin:
        stream(client, place.namespace, place.pod, place.container, {"follow": True})
        return 0
    tty = place.tty and sys.stdin.isatty()
    if tty:
        click.echo("If you don't see a command prompt, try pressing enter.", err=True)
    try:
        return attach(client, place.namespace, place.pod, place.container, stdin=True, tty=tty)
    except FailedPrecondition as error:  # it ended meanwhile; kubectl's words
        said = f"warning: couldn't attach to pod/{place.pod}, falling back to streaming logs"
        click.echo(f"{said}: {error.message}", err=True)
        stream(client, place.namespace, place.pod, place.container, {"follow": True})
        return 0


def await_started(client: Client, place: Place) -> Object:
    """Return the container's state when it runs or has ended; say on stderr what it waits for. Raises NotFound."""
    query = {"fieldSelector": f"metadata.name={place.pod}", "resourceVersion": "0"}
    told = ""
    for event in client.watch(client.path("pods", place.namespace), query):
        if event["type"] == "DELETED":
            break
        state = _state(event["object"], place.container)
        if "running" in state or "terminated" in state:
            return state
        said = state.get("waiting", {}).get("message", "")
        if said and said != told:
            told = said
            click.echo(f"warning: container {place.container}: {said}", err=True)
    raise NotFound(f'pods "{place.pod}" was deleted before {place.container} ran')


def _state(pod: Object, container: str) -> Object:
    listed = (s for key in STATUSES for s in pod.get("status", {}).get(key) or [])
    state: Object = next((s["state"] for s in listed if s["name"] == container), {})
    return state
