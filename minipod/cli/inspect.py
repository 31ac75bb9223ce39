"""minipod inspect pod: which namespaces the containers share, and their cgroups, read from /proc."""

from __future__ import annotations

import os

import click

from minipod.api import static
from minipod.cgroups.hierarchy import of_node
from minipod.cgroups.view import view
from minipod.cli import jsonpath, options
from minipod.cli.client import Object
from minipod.errors import FailedPrecondition

KINDS = ("net", "ipc", "uts", "mnt", "pid", "cgroup", "user")


@click.command("inspect")
@click.argument("words", nargs=-1, required=True, shell_complete=options.complete_names)
@options.namespace_option
@click.option("-o", "--output", default="", help="json, yaml or jsonpath={.CONTAINER.pid}")
@click.pass_context
def command(ctx: click.Context, words: tuple[str, ...], namespace: str, output: str) -> None:
    """Show a pod's containers from the kernel's side."""
    client = options.client(ctx)
    for resource, name in options.split_target(words):
        if resource != "pods" or not name:
            raise FailedPrecondition("inspect takes a pod: minipod inspect pod NAME")
        pod = client.request("GET", client.path("pods", namespace, name))
        found = client.request("GET", f"/minipod/pods/{static.node_uid(pod)}")
        running = [c for c in found["containers"] if c["pid"]]
        if not running:
            raise FailedPrecondition(f"no container of pod {name} runs")
        if output:
            _print(by_name(running), output)
            continue
        print_namespaces(running)
        click.echo()
        hierarchy = of_node(options.instance(ctx).run_dir)
        for container in running:
            click.echo(f"cgroup of {container['name']} (pid {container['pid']}):")
            for path, controllers in cgroups(int(str(container["pid"]))).items():
                click.echo(f"  {path}")
                click.echo(f"  in {', '.join(controllers)}")
            limits = view(hierarchy, str(container["cgroup"]))
            click.echo("  " + ", ".join(f"{k} {v}" for k, v in limits.items()))


def by_name(running: list[Object]) -> Object:
    """Return pid, id, cgroup and namespaces (kind -> inode number) of each container."""
    return {
        c["name"]: {
            "pid": c["pid"],
            "id": c["id"],
            "cgroup": c["cgroup"],
            "namespaces": {kind: namespace_of(c["pid"], kind) for kind in KINDS},
        }
        for c in running
    }


def namespace_of(pid: object, kind: str) -> int:
    """Return the inode number of a process' namespace, which is its name (namespaces(7))."""
    return int(os.readlink(f"/proc/{pid}/ns/{kind}").split(":")[1].strip("[]"))


def _print(found: Object, output: str) -> None:
    if output.startswith("jsonpath="):
        click.echo(jsonpath.parse(output.removeprefix("jsonpath="))(found))
    elif output in ("json", "yaml"):
        options.print_object(found, output)
    else:
        raise click.UsageError(f"unknown output {output!r}: json, yaml, jsonpath={{...}}")


def cgroups(pid: int) -> dict[str, list[str]]:
    """Return the cgroup paths of *pid*, each with the hierarchies that have it (/proc/PID/cgroup)."""
    found: dict[str, list[str]] = {}
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as f:
        for line in f:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            found.setdefault(path, []).append(controllers or "unified (v2)")
    return found


def print_namespaces(running: list[dict[str, object]]) -> None:
    """Print one row for each kind of namespace, and who shares it."""
    rows = [["NAMESPACE", *(str(c["name"]) for c in running), "THE NODE", ""]]
    for kind in KINDS:
        numbers = [namespace_of(c["pid"], kind) for c in running]
        host = namespace_of("self", kind)
        if len(set(numbers)) == 1:
            word = (
                "the node's"
                if numbers[0] == host
                else "shared by the pod"
                if len(running) > 1
                else "the pod's"
            )
        else:
            word = "each its own"
        rows.append([kind, *(str(n) for n in (*numbers, host)), word])
    options.print_rows(rows)
