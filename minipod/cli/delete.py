"""minipod delete: delete objects, and wait until they are gone."""

from __future__ import annotations

import click

from minipod.cli import manifests, options
from minipod.cli.client import Client, Object, plural
from minipod.errors import FailedPrecondition, NotFound


@click.command("delete")
@click.argument("words", nargs=-1, shell_complete=options.complete_names)
@click.option("-f", "--filename", "files", multiple=True, help="As for apply.")
@options.namespace_option
@click.option("-l", "--selector", default="", help="All of TYPE with these labels, like app=web.")
@click.option("--all", "everything", is_flag=True)
@click.option("--grace-period", type=int, default=-1, help="Seconds; -1: the pod's own.")
@click.option("--now", is_flag=True, help="A grace period of one second.")
@click.option(
    "--force", is_flag=True, help="With --grace-period=0: do not wait for the containers."
)
@click.option("--wait/--no-wait", default=True)
@click.option("--ignore-not-found", is_flag=True)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    words: tuple[str, ...],
    files: tuple[str, ...],
    namespace: str,
    **flags: object,
) -> int:
    """Delete pods (and other objects) by name or manifest."""
    client = options.client(ctx)
    targets = [
        (plural(o["kind"]), o["metadata"].get("namespace") or namespace, o["metadata"]["name"])
        for o in _named(manifests.load(files))
    ]
    if words:
        targets += [(r, namespace, n) for r, n in options.split_target(words) if n]
    chosen = bool(flags["everything"] or flags["selector"])
    if chosen and words:
        resource = plural(words[0])
        query = {"labelSelector": flags["selector"]} if flags["selector"] else {}
        items = client.request("GET", client.path(resource, namespace), query=query)["items"]
        targets += [(resource, namespace, i["metadata"]["name"]) for i in items]
        if not targets:
            click.echo("No resources found", err=True)
            return 0
    if not targets:
        raise click.UsageError("name what to delete: TYPE NAME, -f FILE, TYPE -l or TYPE --all")
    grace = 1 if flags["now"] else 0 if flags["force"] else int(str(flags["grace_period"]))
    if grace == 0 and not flags["force"]:
        grace = 1  # as kubectl: only --force skips the kubelet
    return delete_all(
        client, targets, grace, wait=bool(flags["wait"]), ignore=bool(flags["ignore_not_found"])
    )


def _named(objects: list[Object]) -> list[Object]:
    """Return them all. Raises FailedPrecondition for one that has no name to delete it by."""
    for obj in objects:
        if not obj["metadata"].get("name"):
            raise FailedPrecondition(f"{obj['kind']}: no metadata.name, so none can be deleted")
    return objects


def delete_all(
    client: Client,
    targets: list[tuple[str, str, str]],
    grace: int,
    *,
    wait: bool,
    ignore: bool,
    quiet: bool = False,
) -> int:
    """Ask for all deletions, then wait for all; return the exit code."""
    failed, deleted = 0, []
    body = {"gracePeriodSeconds": grace} if grace >= 0 else {}
    for resource, namespace, name in targets:
        try:
            obj = client.request("DELETE", client.path(resource, namespace, name), body=body)
        except NotFound as e:
            if not ignore:
                failed = 1
                click.echo(f"error: {e.message}", err=True)
            continue
        if not quiet:
            click.echo(f'{resource.removesuffix("s")} "{name}" deleted')
        deleted.append((resource, namespace, name, obj))
    if wait:
        for resource, namespace, name, obj in deleted:
            await_gone(client, resource, namespace, name, obj)
    return failed


def await_gone(
    client: Client, resource: str, namespace: str, name: str, obj: dict[str, object]
) -> None:
    """Return when this very object (by uid) is gone."""
    metadata = obj["metadata"]
    assert isinstance(metadata, dict)
    try:
        current = client.request("GET", client.path(resource, namespace, name))
    except NotFound:
        return
    if current["metadata"]["uid"] != metadata["uid"]:
        return
    query = {
        "fieldSelector": f"metadata.name={name}", "resourceVersion": current["metadata"]["resourceVersion"],
    }  # fmt: skip
    for event in client.watch(client.path(resource, namespace), query):
        if event["type"] == "DELETED" and event["object"]["metadata"]["uid"] == metadata["uid"]:
            return
