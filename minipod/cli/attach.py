"""minipod attach: a running container's output from now on, and its stdin."""

from __future__ import annotations

import sys

import click

from minipod.cli import options
from minipod.cli.channels import run_channels
from minipod.cli.client import Client


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
    if tty and not sys.stdin.isatty():
        click.echo("warning: no terminal here: --tty is ignored", err=True)
        tty = False
    client = options.client(ctx)
    name = pod.partition("/")[2] or pod
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
