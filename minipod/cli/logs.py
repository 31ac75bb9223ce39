"""minipod logs: print a container's log."""

from __future__ import annotations

import re
import sys

import click

from minipod.cli import options
from minipod.cli.client import Client
from minipod.errors import FailedPrecondition


@click.command("logs")
@click.argument("pod", shell_complete=options.complete_names)
@click.argument("container_name", required=False)
@options.namespace_option
@click.option("-c", "--container", default="")
@click.option("-f", "--follow", is_flag=True)
@click.option("-p", "--previous", is_flag=True, help="The instance before the last restart.")
@click.option("--tail", type=int, default=-1, help="Lines; -1 is all.")
@click.option("--since", default="", help="Like 5s, 2m, 3h.")
@click.option("--timestamps", is_flag=True)
@click.option("--limit-bytes", type=int)
@click.option("--all-containers", is_flag=True)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    pod: str,
    container_name: str | None,
    namespace: str,
    container: str,
    **flags: object,
) -> None:
    """Print the log of a pod's container."""
    client = options.client(ctx)
    name = pod.partition("/")[2] or pod
    names = [container or container_name or ""]
    if flags["all_containers"]:
        spec = client.request("GET", client.path("pods", namespace, name))["spec"]
        names = [c["name"] for c in (*spec.get("initContainers", []), *spec["containers"])]
    for one in names:
        stream(client, namespace, name, one, flags)


def stream(
    client: Client, namespace: str, pod: str, container: str, flags: dict[str, object]
) -> None:
    """Copy one log to stdout."""
    query: dict[str, object] = {"container": container}
    query |= {k: "true" for k in ("follow", "previous", "timestamps") if flags.get(k)}
    if (tail := flags.get("tail", -1)) != -1:
        query["tailLines"] = tail
    if flags.get("since"):
        query["sinceSeconds"] = seconds(str(flags["since"]))
    if flags.get("limit_bytes"):
        query["limitBytes"] = flags["limit_bytes"]
    answer = client.open("GET", client.path("pods", namespace, pod, "log"), query=query)
    while chunk := answer.read_some():
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def seconds(text: str) -> int:
    """Return whole seconds for a duration such as 1h30m. Raises FailedPrecondition."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise FailedPrecondition(f"not a duration: {text!r}", hint="like 5s, 2m or 1h30m")
    return max(
        1, round(sum(float(n) * {"h": 3600, "m": 60, "s": 1, "ms": 0.001}[u] for n, u in parts))
    )
