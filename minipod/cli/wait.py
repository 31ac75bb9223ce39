"""minipod wait: until objects have a condition, a field has a value, or they are gone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import click

from minipod.cli import options
from minipod.cli.client import Client
from minipod.errors import DeadlineExceeded, FailedPrecondition, NotFound

Test = Callable[[dict[str, Any]], bool]


@click.command("wait")
@click.argument("words", nargs=-1, required=True, shell_complete=options.complete_names)
@options.namespace_option
@click.option(
    "--for", "what", required=True, help="condition=Ready, delete, jsonpath={.status.phase}=Running"
)
@click.option("--timeout", default="30s")
@click.pass_context
def command(
    ctx: click.Context, words: tuple[str, ...], namespace: str, what: str, timeout: str
) -> None:
    """Wait for a condition of one or more objects."""
    client = options.client(ctx)
    deadline = time.monotonic() + options.seconds(timeout)
    for resource, name in options.split_target(words):
        await_one(client, resource, namespace, name, what, deadline)
        shown = resource.removesuffix("s")
        click.echo(f"{shown}/{name} " + ("deleted" if what == "delete" else "condition met"))


def parse(what: str) -> Test:
    """Return the test of a --for. Raises FailedPrecondition."""
    kind, _, rest = what.partition("=")
    if kind == "condition":
        name, _, value = rest.partition("=")
        return lambda obj: any(
            c["type"].lower() == name.lower() and c["status"].lower() == (value or "true").lower()
            for c in obj.get("status", {}).get("conditions", [])
        )
    if kind == "jsonpath":
        from minipod.cli import jsonpath

        path, _, value = rest.rpartition("=")
        shown = jsonpath.parse((path or rest).strip("'\""))
        return lambda obj: shown(obj) == value if path else shown(obj) != ""
    raise FailedPrecondition(
        f"unknown condition {what!r}", hint="condition=NAME, delete or jsonpath={...}=VALUE"
    )


def await_one(
    client: Client, resource: str, namespace: str, name: str, what: str, deadline: float
) -> None:
    """Return when it is so. Raises DeadlineExceeded, NotFound."""
    test: Test = (lambda _: False) if what == "delete" else parse(what)
    path, only = client.path(resource, namespace), {"fieldSelector": f"metadata.name={name}"}
    # A list and not the object: its own version may be older than what a watch can begin at.
    listed = client.request("GET", path, query=only)
    if not listed["items"]:
        if what == "delete":
            return
        raise NotFound(f'{resource} "{name}" not found')
    if test(listed["items"][0]):
        return
    left = deadline - time.monotonic()
    query = only | {
        "resourceVersion": listed["metadata"]["resourceVersion"],
        "timeoutSeconds": str(max(1, math.ceil(left))),
    }
    for event in client.watch(path, query):
        if event["type"] == "DELETED":
            if what == "delete":
                return
            raise NotFound(f'{resource} "{name}" was deleted while waiting')
        if test(event["object"]):
            return
    raise DeadlineExceeded(
        f"timed out waiting for {what} on {resource}/{name}",
        hint=f"minipod describe {resource.removesuffix('s')} {name}",
    )
