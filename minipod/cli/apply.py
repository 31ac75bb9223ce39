"""minipod apply -f: create what a manifest describes, or change it where that is allowed."""

from __future__ import annotations

import json

import click

from minipod.cli import manifests, options
from minipod.cli.client import Client, Object, plural
from minipod.errors import AlreadyExists, FailedPrecondition


@click.command("apply")
@click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    required=True,
    help='A manifest, a directory of them, "-" for stdin.',
)
@options.namespace_option
@click.option(
    "--lenient", is_flag=True, help="Warn about fields that are not supported, instead of refusing."
)
@click.option("--dry-run", is_flag=True, help="Check only.")
@click.pass_context
def command(
    ctx: click.Context, files: tuple[str, ...], namespace: str, lenient: bool, dry_run: bool
) -> int:
    """Create the objects; one that exists gets what may change (images, labels)."""
    client = options.client(ctx)
    failed = 0
    objects = manifests.load(files)
    if not objects:
        raise FailedPrecondition(f"no objects in {', '.join(files)}")
    for obj in objects:
        try:
            done = apply_object(client, obj, namespace, lenient=lenient, dry_run=dry_run)
        except (AlreadyExists, FailedPrecondition) as e:
            failed += 1
            whose = f"{obj['kind'].lower()}/{(obj.get('metadata') or {}).get('name', '')}: "
            click.echo(f"error: {whose if len(objects) > 1 else ''}{e.message}", err=True)
            if e.hint:
                click.echo(f"hint: {e.hint}", err=True)
        else:
            click.echo(f"{obj['kind'].lower()}/{done[0]['metadata']['name']} {done[1]}")
    return 1 if failed else 0


def apply_object(
    client: Client, obj: Object, namespace: str, *, lenient: bool = False, dry_run: bool = False
) -> tuple[Object, str]:
    """Return (the object, created|configured|unchanged)."""
    metadata = obj.get("metadata") or {}
    resource = plural(obj["kind"])
    space = metadata.get("namespace") or namespace
    query = {"fieldManager": "minipod", "fieldValidation": "Ignore" if lenient else "Strict"}
    if dry_run:
        query["dryRun"] = "All"
    path = client.path(resource, space)
    try:
        answer = client.open("POST", path, query=query, body=obj)
    except AlreadyExists:
        return _change(client, obj, f"{path}/{metadata['name']}", query)
    for warning in [v for n, v in answer.headers if n == "warning"]:
        click.echo(f"warning: {warning.removeprefix('299 - ').strip(chr(34))}", err=True)

    return json.loads(answer.read()), "created (dry run)" if dry_run else "created"


def _change(client: Client, obj: Object, path: str, query: dict[str, str]) -> tuple[Object, str]:
    before = client.request("GET", path)
    current = {k: v for k, v in obj.items() if k != "status"}
    connection = client.open("PATCH", path, query=query, body=current, content_type=PATCH)

    after = json.loads(connection.read())
    same = before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
    return after, "unchanged" if same else "configured"


PATCH = "application/strategic-merge-patch+json"
