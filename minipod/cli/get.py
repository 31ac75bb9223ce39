"""minipod get: list objects as kubectl does."""

from __future__ import annotations

from collections.abc import Iterator

import click

from minipod.cli import options
from minipod.cli.client import TABLE, Client, Object
from minipod.errors import NotFound


@click.command("get")
@click.argument("words", nargs=-1, shell_complete=options.complete_names)
@options.namespace_option
@click.option("-A", "--all-namespaces", is_flag=True)
@click.option(
    "-o", "--output", default="", help="wide, yaml, json, name or jsonpath={.status.podIP}"
)
@click.option("-l", "--selector", default="", help="Labels, like app=web.")
@click.option("--field-selector", default="")
@click.option("-w", "--watch", is_flag=True, help="Go on with changes.")
@click.option("--no-headers", is_flag=True)
@click.option("--ignore-not-found", is_flag=True)
@click.pass_context
def command(ctx: click.Context, /, words: tuple[str, ...], namespace: str, **flags: object) -> None:
    """List pods, events, nodes or namespaces: get pods, get pod NAME, get pod/NAME."""
    client = options.client(ctx)
    targets = options.split_target(words)
    for i, (resource, name) in enumerate(targets):
        if i and not name:
            click.echo()
        try:
            _show(client, resource, name, namespace, flags)
        except NotFound:
            if not flags["ignore_not_found"]:
                raise


def _show(
    client: Client, resource: str, name: str, namespace: str, flags: dict[str, object]
) -> None:
    everywhere = bool(flags["all_namespaces"])
    output = str(flags["output"])
    path = client.path(resource, None if everywhere else namespace, name)
    query = {
        key: value
        for key, value in (
            ("labelSelector", flags["selector"]), ("fieldSelector", flags["field_selector"]),
        )
        if value
    }  # fmt: skip
    if output in ("", "wide"):
        table = client.request("GET", path, query=query, accept=TABLE)
        if not table["rows"] and not name and not flags["watch"]:
            where = (
                ""
                if everywhere or resource in ("nodes", "namespaces")
                else f" in {namespace} namespace"
            )
            click.echo(f"No resources found{where}.", err=True)
            return
        headers = not flags["no_headers"]
        wide = output == "wide"
        widths = options.print_table(table, wide=wide, headers=headers, namespace=everywhere)
        if flags["watch"]:
            changes = _changes(client, name, path, query, table)
            for changed in changes:
                widths = options.print_table(
                    changed, wide=wide, headers=False, namespace=everywhere, widths=widths
                )
        return
    found = client.request("GET", path, query=query)
    _print(found, output, resource)


def _changes(
    client: Client, name: str, path: str, query: dict[str, object], table: Object
) -> Iterator[Object]:
    """Yield a Table for each change since *table*."""
    if name:
        path = path.rpartition("/")[0]
        query = {**query, "fieldSelector": f"metadata.name={name}"}
    query = {**query, "resourceVersion": table["metadata"]["resourceVersion"]}
    for event in client.watch(path, query, accept=TABLE):
        yield event["object"]


def _print(found: dict[str, object], output: str, resource: str) -> None:
    items = found.get("items", [found])
    assert isinstance(items, list)
    if output == "name":
        for item in items:
            click.echo(f"{resource.removesuffix('s')}/{item['metadata']['name']}")
    elif output.startswith("jsonpath="):
        from minipod.cli import jsonpath

        click.echo(jsonpath.parse(output.removeprefix("jsonpath="))(found))
    elif output in ("json", "yaml"):
        options.print_object(found, output)
    else:
        raise click.UsageError(
            f"unknown output {output!r}: wide, yaml, json, name, jsonpath={{...}}"
        )
