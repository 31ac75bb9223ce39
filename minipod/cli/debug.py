"""minipod debug: a container to look around with, in a pod, in a copy of a pod, or in a pod that has the node.

    debug POD --image=I [--target=C]      an ephemeral container; with a target it has that container's processes
    debug POD --copy-to=NAME ...          a second pod, with one container more, or with one of its containers changed
    debug node/NAME --image=I             a pod in the node's namespaces, the node's files at /host

What the objects look like is in `cli.debug_pods`. Names, flags and messages follow kubectl's debug.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from minipod.cli import debug_pods, options
from minipod.cli.attach import Place, talk
from minipod.cli.client import Client
from minipod.cli.exec import ExecCommand
from minipod.errors import FailedPrecondition

PATCH = "application/strategic-merge-patch+json"


@click.command("debug", cls=ExecCommand)
@click.argument("target_name", metavar="POD | node/NAME", shell_complete=options.complete_names)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@options.namespace_option
@click.option("--image", default="", help="What the debugging container runs.")
@click.option("-c", "--container", default="", help="Its name; with --copy-to, or one to change.")
@click.option("--target", default="", metavar="CONTAINER", help="Share its processes.")
@click.option("--copy-to", default="", metavar="NAME", help="Debug a copy of the pod.")
@click.option("--replace", is_flag=True, help="With --copy-to: delete the original.")
@click.option("--share-processes/--no-share-processes", default=True, help="In the copy.")
@click.option(
    "--set-image", multiple=True, metavar="CONTAINER=IMAGE", help="In the copy; * is all."
)
@click.option("--env", multiple=True, metavar="NAME=VALUE")
@click.option("--image-pull-policy", default="")
@click.option("--profile", type=click.Choice(debug_pods.PROFILES), default="general")
@click.option("-i", "--stdin", is_flag=True, help="Attach, and pass stdin to the container.")
@click.option("-t", "--tty", is_flag=True, help="Give the container a terminal.")
@click.option("--attach/--no-attach", "attached", default=None, help="Default: with -i.")
@click.option("-q", "--quiet", is_flag=True)
@click.pass_context
def command(
    ctx: click.Context, /, target_name: str, words: Sequence[str], namespace: str, **flags: object
) -> int:
    """Debug a pod or the node: minipod debug POD --image=IMAGE [--target=CONTAINER] [-it] [-- COMMAND]."""
    client = options.client(ctx)
    kind, _, name = target_name.rpartition("/")
    wanted = debug_pods.wanted(flags, (*words, *ctx.meta.get("command", ())))
    quiet = bool(flags["quiet"])
    if kind in ("node", "nodes", "no"):
        place = _node(client, namespace, name, wanted, quiet=quiet)
    elif kind not in ("", "pod", "pods", "po"):
        raise FailedPrecondition(f"{target_name}: debug takes a pod or node/NAME")
    elif wanted.copy_to:
        place = _copy(client, namespace, name, wanted, replace=bool(flags["replace"]))
    else:
        place = _ephemeral(client, namespace, name, wanted, quiet=quiet)
    asked = flags["attached"]
    return talk(client, place) if (wanted.stdin if asked is None else asked) else 0


def _ephemeral(
    client: Client, namespace: str, name: str, wanted: debug_pods.Wanted, *, quiet: bool
) -> Place:
    path = client.path("pods", namespace, name)
    pod = client.request("GET", path)
    made = debug_pods.ephemeral(pod, wanted)
    if not quiet and not wanted.container:
        click.echo(f"Defaulting debug container name to {made['name']}.", err=True)
    body = {"spec": {"ephemeralContainers": [made]}}
    client.request("PATCH", f"{path}/ephemeralcontainers", body=body, content_type=PATCH)
    return _place(namespace, name, made["name"], wanted)


def _copy(
    client: Client, namespace: str, name: str, wanted: debug_pods.Wanted, *, replace: bool
) -> Place:
    original = client.request("GET", client.path("pods", namespace, name))
    made, container = debug_pods.copy(original, wanted)
    if replace:
        client.request("DELETE", client.path("pods", namespace, name))
    client.request("POST", client.path("pods", namespace), body=made)
    return _place(namespace, wanted.copy_to, container, wanted)


def _node(
    client: Client, namespace: str, name: str, wanted: debug_pods.Wanted, *, quiet: bool
) -> Place:
    client.request("GET", client.path("nodes", None, name))  # NotFound before anything is made
    made = debug_pods.on_node(name, wanted)
    pod, container = made["metadata"]["name"], made["spec"]["containers"][0]["name"]
    client.request("POST", client.path("pods", namespace), body=made)
    if not quiet:
        click.echo(
            f"Creating debugging pod {pod} with container {container} on node {name}.", err=True
        )
    return _place(namespace, pod, container, wanted)


def _place(namespace: str, pod: str, container: str, wanted: debug_pods.Wanted) -> Place:
    return Place(
        namespace=namespace, pod=pod, container=container, stdin=wanted.stdin, tty=wanted.tty
    )
