"""minipod kubeconfig: print the path of the administrator's kubeconfig, or make one for another user."""

from __future__ import annotations

import os

import click

from minipod.cli import options
from minipod.errors import InvalidSpec, NotFound


@click.command("kubeconfig")
@click.option(
    "--user", metavar="NAME", help="Make one for this user, with a certificate of his own."
)
@click.option("--group", "groups", metavar="NAME", multiple=True, help="A group he is in.")
@click.pass_context
def command(ctx: click.Context, user: str | None, groups: tuple[str, ...]) -> None:
    """Print the path of a kubeconfig: export KUBECONFIG=$(minipod kubeconfig).

    Without --user it is the administrator's, who may do everything. A user that is made here may do what roles
    allow him (kubectl create rolebinding); his certificate lasts a year.
    """
    instance = options.instance(ctx)
    try:
        os.stat(instance.kubeconfig)  # who may not look at the directory is told that
    except FileNotFoundError:
        raise NotFound(
            f"node {instance.name} has no kubeconfig yet",
            hint=f"it is made by its first start: {instance.command} up",
        ) from None
    if user is None:
        if groups:
            raise InvalidSpec("--group is for a --user")
        click.echo(instance.kubeconfig)
        return
    from minipod.apiserver.auth.kubeconfig import make_user  # only for --user

    click.echo(make_user(instance, user, groups))
