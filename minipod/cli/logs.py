"""minipod logs: print containers' logs, one after the other, or all at once when they are followed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager

import click

from minipod.cli import options
from minipod.cli.client import Client, Object
from minipod.errors import FailedPrecondition, MinipodError

SELECTED_TAIL = 10  # lines of each, with a selector and no --tail (as kubectl's)

Target = tuple[str, str]  # pod, container ("": its only one)


@click.command("logs")
@click.argument("pod", required=False, default="", shell_complete=options.complete_names)
@click.argument("container_name", required=False)
@options.namespace_option
@click.option("-c", "--container", default="")
@click.option("-l", "--selector", default="", metavar="LABELS", help="Of all pods that match.")
@click.option("-f", "--follow", is_flag=True)
@click.option("-p", "--previous", is_flag=True, help="The instance before the last restart.")
@click.option("--tail", type=int, default=None, help="Lines; -1 is all (default; 10 with -l).")
@click.option("--since", default="", help="Like 5s, 2m, 3h.")
@click.option("--since-time", default="", metavar="RFC3339")
@click.option("--timestamps", is_flag=True)
@click.option("--limit-bytes", type=int)
@click.option("--all-containers", is_flag=True)
@click.option("--prefix", is_flag=True, help="Say on each line whose it is.")
@click.option("--max-log-requests", type=int, default=5, show_default=True, help="With -f.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    pod: str,
    container_name: str | None,
    namespace: str,
    container: str,
    **flags: object,
) -> int:
    """Print the log of a pod's container, or of several: --all-containers, -l app=web."""
    if bool(pod) == bool(flags["selector"]):
        raise click.UsageError("name one pod, or choose several with -l")
    client = options.client(ctx)
    name = options.pod_name(pod)
    found = _targets(client, namespace, name, container or container_name or "", flags)
    if flags["tail"] is None and flags["selector"]:
        flags["tail"] = SELECTED_TAIL
    if len(found) == 1 and not flags["prefix"]:
        stream(client, namespace, *found[0], flags)
        return 0
    return _several(client, namespace, found, flags)


def _targets(
    client: Client, namespace: str, name: str, container: str, flags: Mapping[str, object]
) -> list[Target]:
    if container and not flags["selector"]:
        return [(name, container)]
    if flags["selector"]:
        query = {"labelSelector": flags["selector"]}
        pods = client.request("GET", client.path("pods", namespace), query=query)["items"]
    else:
        pods = [client.request("GET", client.path("pods", namespace, name))]
    if not pods:
        click.echo(f"No resources found in {namespace} namespace.", err=True)
    every = bool(flags["all_containers"])
    return [
        (pod["metadata"]["name"], one)
        for pod in pods
        for one in (
            _containers(pod["spec"]) if every else [container or options.default_container(pod)]
        )
    ]


def _containers(spec: Object) -> list[str]:
    keys = ("initContainers", "containers", "ephemeralContainers")
    return [c["name"] for key in keys for c in spec.get(key) or []]


def _several(
    client: Client, namespace: str, targets: list[Target], flags: Mapping[str, object]
) -> int:
    """Print the lines of all; followed, each is read by a thread of its own. Return 1 when one of them failed."""
    most = flags["max_log_requests"]
    if flags["follow"] and isinstance(most, int) and len(targets) > most:
        raise FailedPrecondition(
            f"you are attempting to follow {len(targets)} log streams, but maximum allowed concurrency is {most}",
            hint="use --max-log-requests to increase the limit",
        )
    import threading  # 1 ms, which one log needs not

    lines = _Lines(threading.Lock())
    threads = []
    for target in targets:
        arguments = (client, namespace, target, flags, lines)
        threads.append(threading.Thread(target=_print_lines, args=arguments, daemon=True))
        threads[-1].start()
        if not flags["follow"]:
            threads[-1].join()
    for thread in threads:
        thread.join()
    return 1 if lines.failed else 0


class _Lines:
    """Stdout for several writers: whole lines only."""

    def __init__(self, lock: AbstractContextManager[bool]) -> None:
        self.failed = False
        self._lock = lock

    def write(self, text: bytes) -> None:
        with self._lock:
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()

    def fail(self, message: str) -> None:
        self.failed = True
        click.echo(f"error: {message}", err=True)


def _print_lines(
    client: Client, namespace: str, target: Target, flags: Mapping[str, object], lines: _Lines
) -> None:
    pod, container = target
    prefix = f"[pod/{pod}/{container}] ".encode() if flags["prefix"] else b""
    try:
        answer = client.open(
            "GET", client.path("pods", namespace, pod, "log"), query=_query(container, flags)
        )
        while line := answer.readline():
            lines.write(prefix + line)
    except (MinipodError, OSError) as e:
        lines.fail(f"{pod}: {e.message if isinstance(e, MinipodError) else e}")


def stream(
    client: Client, namespace: str, pod: str, container: str, flags: Mapping[str, object]
) -> None:
    """Copy one log to stdout."""
    path = client.path("pods", namespace, pod, "log")
    answer = client.open("GET", path, query=_query(container, flags))
    while chunk := answer.read_some():
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def _query(container: str, flags: Mapping[str, object]) -> dict[str, object]:
    query: dict[str, object] = {"container": container}
    query |= {k: "true" for k in ("follow", "previous", "timestamps") if flags.get(k)}
    tail = flags.get("tail")
    if tail is not None and tail != -1:
        query["tailLines"] = tail
    if flags.get("since"):
        query["sinceSeconds"] = options.seconds(str(flags["since"]))
    if flags.get("since_time"):
        query["sinceTime"] = flags["since_time"]
    if flags.get("limit_bytes"):
        query["limitBytes"] = flags["limit_bytes"]
    return query
