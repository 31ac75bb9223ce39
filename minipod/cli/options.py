"""What several verbs share: the node that is meant, namespaces, completion with live names, tables."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from minipod.cli.client import Client, Object, plural
from minipod.errors import FailedPrecondition, MinipodError, NotFound
from minipod.spec.endpoint import SETTINGS, Endpoint, is_name

if TYPE_CHECKING:
    from minipod.spec.instance import Instance

F = TypeVar("F", bound=Callable[..., Any])


def instance(ctx: click.Context) -> Instance:
    """Return the node that the global options mean, with all of its settings. Raises what `config.load` does."""
    from minipod import config  # 5 ms: only for who needs more than `endpoint` tells

    chosen = ctx.find_root().obj or {}
    return config.load(chosen.get("config"), name=chosen.get("name")).instance


def endpoint(ctx: click.Context) -> Endpoint:
    """Return where that node answers: where there are no settings to read, its name tells."""
    chosen = ctx.find_root().obj or {}
    name = chosen.get("name")
    if name is None:
        name = os.environ.get("MINIPOD_INSTANCE") or "minipod"
    settings = chosen.get("config") or os.environ.get("MINIPOD_CONFIG") or os.path.exists(SETTINGS)
    return instance(ctx) if settings or not is_name(name) else Endpoint(name)


def client(ctx: click.Context) -> Client:
    return Client(endpoint(ctx))


def namespace_option(f: F) -> F:
    return click.option("-n", "--namespace", default="default", show_default=True)(f)


def pod_name(word: str) -> str:
    """Return the name of the pod in `NAME` or `pod/NAME`."""
    return word.partition("/")[2] or word


def terminal(wanted: bool) -> bool:
    """Whether there is a terminal for --tty; say so when it is *wanted*, and there is none."""
    if wanted and not sys.stdin.isatty():
        click.echo("warning: no terminal here: --tty is ignored", err=True)
        return False
    return wanted


def container(client: Client, namespace: str, pod: str, wanted: str) -> str:
    """Return *wanted*, or the container of *pod* that is meant when none was named. Raises NotFound."""
    return wanted or default_container(client.request("GET", client.path("pods", namespace, pod)))


def default_container(pod: Object) -> str:
    """Return the name of the container that the pod's annotation names, or of its first; say so when there are others."""
    names: list[str] = [c["name"] for c in pod["spec"]["containers"]]
    if chosen := annotated(pod):
        return chosen
    if len(names) > 1:
        click.echo(f'Defaulted container "{names[0]}" out of: {", ".join(names)}', err=True)
    return names[0]


def annotated(pod: Object) -> str:
    """Return the name of the container that the pod's annotation names; "" where it names none of them."""
    annotations = pod["metadata"].get("annotations") or {}
    chosen = annotations.get("kubectl.kubernetes.io/default-container")
    return str(chosen) if chosen in [c["name"] for c in pod["spec"]["containers"]] else ""


def complete_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of pods that begin with *incomplete*; nothing when the node does not run."""
    try:
        listed = client(ctx).request("GET", "/api/v1/pods")["items"]
    except (MinipodError, OSError):
        return []
    return [p["metadata"]["name"] for p in listed if p["metadata"]["name"].startswith(incomplete)]


def seconds(text: str) -> int:
    """Return whole seconds for a duration such as 1h30m. Raises FailedPrecondition."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise FailedPrecondition(f"not a duration: {text!r}", hint="like 5s, 2m or 1h30m")
    return max(
        1, round(sum(float(n) * {"h": 3600, "m": 60, "s": 1, "ms": 0.001}[u] for n, u in parts))
    )


def split_target(words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return (resource, name) pairs for `pod/x pod/y`, `pods x y` or `pods`."""
    if not words:
        raise click.UsageError("name what: a resource type such as pods, or TYPE/NAME")
    if any("/" in word for word in words):
        found = []
        for word in words:
            kind, slash, name = word.partition("/")
            if not slash:
                raise FailedPrecondition(
                    f"there is no need to mix TYPE/NAME and plain names: {word!r}"
                )
            found.append((plural(kind), name))
        return found
    try:
        kinds = [plural(kind) for kind in words[0].split(",")]
    except NotFound as e:
        if len(words) > 1:
            raise
        raise NotFound(
            e.message, hint=f"for a pod of that name: pod {words[0]}; {e.hint}"
        ) from None
    return [(kind, name) for kind in kinds for name in (words[1:] or ("",))]


def print_table(
    table: Object,
    *,
    wide: bool,
    headers: bool = True,
    namespace: bool = False,
    widths: Sequence[int] = (),
) -> list[int]:
    """Print a server's Table as kubectl does: upper case, three spaces, columns as wide as needed.

    Return their widths: what a watch prints below is at least as wide.
    """
    shown = [
        i for i, c in enumerate(table.get("columnDefinitions") or []) if wide or not c["priority"]
    ]
    rows = []
    if headers:
        names = [table["columnDefinitions"][i]["name"].upper() for i in shown]
        rows.append((["NAMESPACE"] if namespace else []) + names)
    for row in table["rows"]:
        cells = [str(row["cells"][i]) for i in shown]
        rows.append(([row["object"]["metadata"].get("namespace", "")] if namespace else []) + cells)
    return print_rows(rows, widths)


def print_rows(rows: list[list[str]], least: Sequence[int] = ()) -> list[int]:
    """Print columns, at least as wide as *least*; return how wide they are. Whoever reads a pipe gets them at once."""
    if not rows:
        return list(least)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    if len(least) == len(widths):
        widths = [max(pair) for pair in zip(widths, least, strict=True)]
    for row in rows:
        line = "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())
    sys.stdout.flush()
    return widths


def print_object(obj: Object, form: str) -> None:
    """Print as JSON or YAML; who manages which field is left out, as kubectl does."""
    for one in obj["items"] if obj.get("kind", "").endswith("List") else [obj]:
        one.get("metadata", {}).pop("managedFields", None)
    if form == "json":
        import json

        print(json.dumps(obj, indent=4))
    else:
        import yaml

        print(yaml.safe_dump(obj, sort_keys=False, default_flow_style=False), end="")
