"""minipod exec: run a command in a container, with pipes or with a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import click

from minipod.cli import options
from minipod.cli.channels import run_channels
from minipod.cli.client import Client
from minipod.errors import FailedPrecondition, NotFound


class ExecCommand(click.Command):
    """Remembers whether there was a `--`: everything behind it belongs to the command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta["command"] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)


class WithoutDashes(ExecCommand):
    """Takes `exec POD sh -c ls`, too, as docker exec does: what follows the command's first word belongs to the command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = len(args) if "--" in args else _second_word(self, args)
        return super().parse_args(ctx, [*args[:at], "--", *args[at:]] if at < len(args) else args)


def _second_word(command: click.Command, args: list[str]) -> int:
    """Return where the second word is that is neither an option of *command* nor the value of one; without one the end."""
    valued = {
        name
        for param in command.params
        if isinstance(param, click.Option) and not param.is_flag
        for name in param.opts
    }
    words, at = 0, 0
    while at < len(args):
        word = args[at]
        if word.startswith("-") and word != "-":
            short = next((i for i, c in enumerate(word[1:], 1) if f"-{c}" in valued), 0)
            # --container NAME and -itc NAME; --container=NAME and -cNAME have it in them
            at += word in valued or (word[1] != "-" and 0 < short == len(word) - 1)
        elif words:
            return at
        else:
            words += 1
        at += 1
    return len(args)


@click.command("exec", cls=WithoutDashes)
@click.argument("pod", shell_complete=options.complete_names)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@options.namespace_option
@click.option("-c", "--container", default="")
@click.option("-i", "--stdin", is_flag=True, help="Pass stdin to the command.")
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal.")
@click.pass_context
def command(  # noqa: PLR0913 one parameter for each option
    ctx: click.Context,
    pod: str,
    words: Sequence[str],
    namespace: str,
    container: str,
    stdin: bool,
    tty: bool,
) -> int:
    """Run COMMAND in a container: minipod exec POD [-c CONTAINER] [-it] -- COMMAND [ARGS]."""
    argv = (*words, *ctx.meta.get("command", ()))
    if not argv:
        raise click.UsageError("name the command: minipod exec POD -- COMMAND [ARGS]")
    tty = options.terminal(tty)
    client = options.client(ctx)
    name = options.pod_name(pod)
    path = client.path("pods", namespace, name, "exec")

    def run(container: str) -> int:
        query = [("command", word) for word in argv]
        query += [("container", container), ("stdout", "true"), ("stderr", str(not tty).lower())]
        query += [("stdin", str(stdin).lower()), ("tty", str(tty).lower())]
        return run_channels(client.instance.api_socket, path, query, stdin=stdin, tty=tty)

    try:
        return run(container)
    except FailedPrecondition:
        chosen = "" if container else _first_of_several(client, namespace, name)
        if not chosen:
            raise
    return run(chosen)


def _first_of_several(client: Client, namespace: str, pod: str) -> str:
    """Return the container that we mean where the server knows none that is meant, and refuses; "" where it has chosen one."""
    try:
        found = client.request("GET", client.path("pods", namespace, pod))
    except NotFound:  # it has gone: what the server refused before is to be told
        return ""
    sole = len(found["spec"]["containers"]) == 1
    return "" if sole or options.annotated(found) else options.default_container(found)
