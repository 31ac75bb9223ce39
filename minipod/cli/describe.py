"""minipod describe: pods and their events in words, other objects as YAML."""

from __future__ import annotations

from typing import Any

import click

from minipod.cli import options
from minipod.cli.client import TABLE


@click.command("describe")
@click.argument("words", nargs=-1, required=True, shell_complete=options.complete_names)
@options.namespace_option
@click.pass_context
def command(ctx: click.Context, words: tuple[str, ...], namespace: str) -> None:
    """Show pods: state of their containers, conditions, events."""
    client = options.client(ctx)
    found = []
    for resource, name in options.split_target(words):
        obj = client.request("GET", client.path(resource, namespace, name))
        found += [(resource, one) for one in obj.get("items", [obj])]
    for number, (resource, obj) in enumerate(found):
        if number:
            click.echo("" if resource == "pods" else "---")
        if resource != "pods":
            options.print_object(obj, "yaml")
            continue
        describe_pod(obj)
        query = {"fieldSelector": f"involvedObject.uid={obj['metadata']['uid']}"}
        table = client.request("GET", client.path("events", namespace), query=query, accept=TABLE)
        click.echo("Events:" if table["rows"] else "Events: <none>")
        options.print_rows(_events(table))
    if not found:
        click.echo(f"No resources found in {namespace} namespace.", err=True)


def _events(table: dict[str, Any]) -> list[list[str]]:
    """Return the rows of a Table of events, indented, with their header; none for none."""
    if not table["rows"]:
        return []
    names = [column["name"] for column in table["columnDefinitions"]]
    shown = [names.index(name) for name in ("Last Seen", "Type", "Reason", "Message")]
    rows = [[str(row["cells"][i]) for i in shown] for row in table["rows"]]
    return [[f"  {row[0]}", *row[1:]] for row in (["AGE", "TYPE", "REASON", "MESSAGE"], *rows)]


def describe_pod(pod: dict[str, Any]) -> None:
    """Print the pod's own part."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    labels = ",".join(f"{k}={v}" for k, v in (metadata.get("labels") or {}).items())
    facts = [
        ["Name:", metadata["name"]], ["Namespace:", metadata["namespace"]], ["Node:", spec.get("nodeName", "")],
        ["Start Time:", status.get("startTime", "")], ["Labels:", labels or "<none>"],
        ["Status:", status.get("phase", "")], ["Reason:", status.get("reason", "")],
        ["Message:", status.get("message", "")], ["IP:", status.get("podIP", "")],
        ["QoS Class:", status.get("qosClass", "")],
    ]  # fmt: skip
    options.print_rows([f for f in facts if f[1] or f[0] not in ("Reason:", "Message:")])
    for title, group, statuses in (
        ("Init Containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
        ("Ephemeral Containers", "ephemeralContainers", "ephemeralContainerStatuses"),
    ):
        if spec.get(group):
            click.echo(f"{title}:")
            by_name = {s["name"]: s for s in status.get(statuses, [])}
            for container in spec[group]:
                _container(container, by_name.get(container["name"], {}))
    click.echo("Conditions:")
    options.print_rows(
        [
            ["  TYPE", "STATUS"],
            *([f"  {c['type']}", c["status"]] for c in status.get("conditions", [])),
        ]
    )


def _container(container: dict[str, Any], status: dict[str, Any]) -> None:
    click.echo(f"  {container['name']}:")
    rows = [
        ["    Container ID:", status.get("containerID", "")], ["    Image:", container["image"]],
        ["    Image ID:", status.get("imageID", "")],
        ["    Command:", " ".join((*container.get("command", []), *container.get("args", [])))],
        ["    State:", _state(status.get("state"))], ["    Last State:", _state(status.get("lastState"))],
        ["    Ready:", str(status.get("ready", False))],
        ["    Restart Count:", str(status.get("restartCount", 0))],
    ]  # fmt: skip
    options.print_rows([r for r in rows if r[1]])


def _state(state: dict[str, Any] | None) -> str:
    for kind, facts in (state or {}).items():
        words = [kind.title()]
        words += [
            f"{k}={facts[k]}"
            for k in ("reason", "exitCode", "signal", "startedAt", "finishedAt", "message")
            if facts.get(k) not in (None, "")
        ]
        return " ".join(words)
    return ""
