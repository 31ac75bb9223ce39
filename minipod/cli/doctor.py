"""minipod doctor: what of the machine works, and what the node has left behind."""

from __future__ import annotations

import dataclasses

import click

from minipod.cli import options


@click.command("doctor")
@click.option("--leaks", is_flag=True, help="List what of this node no record owns.")
@click.option("-o", "--output", type=click.Choice(["json"]))
@click.pass_context
def command(ctx: click.Context, leaks: bool, output: str | None) -> int:
    """Check the machine; exit 1 when something that minipod needs is missing."""
    if leaks:
        return _leaks(ctx)
    from minipod.cli import doctor_checks  # loads ctypes and more

    findings = list(doctor_checks.run_all())
    if output:
        options.print_object({"checks": [dataclasses.asdict(f) for f in findings]}, output)
    else:
        rows = [["CHECK", "STATE", "FOUND", "COSTS"]]
        rows += [[f.name, f.state, f.found, "" if f.state == "ok" else f.costs] for f in findings]
        options.print_rows(rows)
    needed = [f for f in findings if f.state == "missing" and f.costs == "minipod does not run"]
    return 1 if needed else 0


def _leaks(ctx: click.Context) -> int:
    from minipod.daemon.leaks import leaks

    found = leaks(options.instance(ctx))
    for line in found:
        click.echo(line)
    if not found:
        click.echo("nothing is left behind")
    return 1 if found else 0
