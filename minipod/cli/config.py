"""minipod config: every effective setting and where it came from."""

from __future__ import annotations

import dataclasses

import click

from minipod import config
from minipod.cli import options

DERIVED = (
    "run_dir", "state_dir", "log_dir", "api_socket", "cgroup_root", "bridge", "link_prefix", "nft_table",
    "api_port", "kubeconfig",
)  # fmt: skip


@click.command("config")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Print every effective setting and where it came from."""
    chosen = ctx.find_root().obj or {}
    loaded = config.load(chosen.get("config"), name=chosen.get("name"))
    rows = [["SETTING", "VALUE", "FROM"]]
    for field in dataclasses.fields(loaded.instance):
        value = getattr(loaded.instance, field.name)
        shown = ",".join(value) if isinstance(value, tuple) else str(value)
        shown = shown.lower() if isinstance(value, bool) else shown
        rows.append([field.name, shown or "<empty>", loaded.sources[field.name]])
    rows += [[name, str(getattr(loaded.instance, name)), "derived"] for name in DERIVED]
    options.print_rows(rows)
