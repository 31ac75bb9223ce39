"""minipod steps: how a container was set up, operation by operation, in the kernel's words, and what of the manifest asked for each.

It is the plan that the supervisor executed, made again from the container's record: `init.plan` is a pure function of that.
"""

from __future__ import annotations

import click

from minipod.api import static
from minipod.cgroups.hierarchy import of_node
from minipod.cli import options
from minipod.errors import FailedPrecondition


@click.command("steps")
@click.argument("pod", shell_complete=options.complete_names)
@options.namespace_option
@click.option("-c", "--container", default="")
@click.pass_context
def command(ctx: click.Context, pod: str, namespace: str, container: str) -> None:
    """Print the steps from fork to execve that made a container of POD."""
    from minipod.init import plan  # with the operations, which no other verb needs
    from minipod.runtime import bundle

    client, run_dir = options.client(ctx), options.instance(ctx).run_dir
    name = options.pod_name(pod)
    wanted = options.container(client, namespace, name, container)
    uid = static.node_uid(client.request("GET", client.path("pods", namespace, name)))
    found = client.request("GET", f"/minipod/pods/{uid}")["containers"]
    made = [c for c in found if c["name"] == wanted]
    if not made:
        known = ", ".join(c["name"] for c in found) or "none yet"
        raise FailedPrecondition(f"pod {name} has no container {wanted}", hint=f"made: {known}")
    newest = next((c for c in made if c["pid"]), made[-1])
    try:
        record = bundle.read(f"{run_dir}/containers/{newest['id']}")
    except FileNotFoundError as e:
        raise FailedPrecondition(f"container {wanted} of pod {name} has just been removed") from e
    cgroups = plan.cgroup_mounts(of_node(run_dir))
    for line in plan.container_plan(record, cgroups).describe():
        click.echo(line)
