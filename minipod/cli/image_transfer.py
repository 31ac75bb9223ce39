"""minipod image pull, push: with a bar for each layer when a person watches, a line for each step otherwise.

A pull goes through the daemon when the node runs, so that it shares the kubelet's downloads; else it is done
here, alone by the store's lock. Credentials are the caller's own: ~/.docker/config.json and its helpers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click

from minipod.cli import options
from minipod.cli.progress import Lines
from minipod.errors import ImageError, NotFound, Unavailable

if TYPE_CHECKING:
    from minipod.spec.instance import Instance
    from minipod.spec.registry import AuthConfig

T = TypeVar("T")


@click.command("pull")
@click.argument("name")
@click.option("--platform", default="", metavar="OS/ARCH", help="Of a multi-platform image.")
@click.option("-q", "--quiet", is_flag=True, help="Print the image's id only.")
@click.pass_context
def pull(ctx: click.Context, name: str, platform: str, quiet: bool) -> None:
    """Fetch an image from its registry."""
    instance = options.instance(ctx)
    with Lines(quiet=quiet) as lines:
        found = _pull(instance, name, platform, lines)
    if quiet:
        click.echo(found["id"])
    else:
        click.echo(f"pulled {_pin(name, found['repo_digests'])}")


def _pull(instance: Instance, name: str, platform: str, lines: Lines) -> dict[str, Any]:
    def attempt(auth: AuthConfig) -> dict[str, Any]:
        try:
            return _through_daemon(instance, name, platform, auth, lines)
        except Unavailable:
            return _here(instance, name, platform, auth, lines)

    return _with_each(_credentials(name), attempt)


def _pin(name: str, digests: list[str]) -> str:
    """Return the digest of the repository that was asked for; an image can be in several."""
    from minipod.image import reference

    repository = reference.parse(name).name
    return next((d for d in digests if d.partition("@")[0] == repository), name)


def _credentials(name: str) -> list[AuthConfig]:
    from minipod.image import reference
    from minipod.image.registry import keyring
    from minipod.spec.registry import ANONYMOUS

    return keyring.of_user(reference.parse(name), os.environ) or [ANONYMOUS]


def _with_each(credentials: list[AuthConfig], attempt: Callable[[AuthConfig], T]) -> T:
    """Return what *attempt* returns with the first credentials that work; raise the last failure."""
    for auth in credentials[:-1]:
        try:
            return attempt(auth)
        except ImageError:
            continue
    return attempt(credentials[-1])


def _through_daemon(
    instance: Instance, name: str, platform: str, auth: AuthConfig, lines: Lines
) -> dict[str, Any]:
    from minipod.cli.client import Client

    body = {"image": name, "platform": platform, "auth": asdict(auth)}
    answer = Client(instance).open("POST", "/minipod/images/pull", body=body)
    while line := answer.readline():
        news = json.loads(line)
        if "error" in news:
            raise ImageError(news["error"], reason=news["reason"], hint=news["hint"])
        if "image" in news:
            found: dict[str, Any] = news["image"]
            return found
        lines.show(**news)
    raise ImageError("the daemon ended during the pull", reason="ErrImagePull")


def _here(
    instance: Instance, name: str, platform: str, auth: AuthConfig, lines: Lines
) -> dict[str, Any]:
    import asyncio  # with it ssl and aiohttp: only where there is no daemon to do it

    from minipod.image import store as image_store
    from minipod.image.registry.pull import Puller

    store = image_store.of_node(instance)

    async def run() -> dict[str, Any]:
        puller = Puller(store, instance.registries)
        image = await puller.pull(
            name, auth, wanted=platform, tell=lambda news: lines.show(**asdict(news))
        )
        return {"id": image.id, "repo_digests": image.digests}

    with store.lock("pull.lock"):
        return asyncio.run(run())


@click.command("push")
@click.argument("name")
@click.option("-q", "--quiet", is_flag=True, help="Print the digest only.")
@click.pass_context
def push(ctx: click.Context, name: str, quiet: bool) -> None:
    """Send an image to the registry that its name says."""
    import asyncio  # only here: with it come ssl and aiohttp

    from minipod.image import store as image_store
    from minipod.image.registry.push import Pusher

    instance = options.instance(ctx)
    store = image_store.of_node(instance)
    if store.resolve(name) is None:
        raise NotFound(f"no image {name}", hint="minipod image ls")
    pusher = Pusher(store, instance.registries)
    with Lines(quiet=quiet) as lines:
        digest = _with_each(
            _credentials(name),
            lambda auth: asyncio.run(
                pusher.push(name, auth, tell=lambda news: lines.show(**asdict(news)))
            ),
        )
    click.echo(digest if quiet else f"pushed {name}: {digest}")
