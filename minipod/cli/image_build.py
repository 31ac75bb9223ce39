"""minipod image build: recipes, and directories with a Dockerfile.

A RUN step is a pod of the node, with the image so far: what its container wrote becomes the layer. So it has the
network, the limits and the security that every pod has, and `minipod get pods` shows it while it runs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from minipod.cli import options
from minipod.cli.image_show import open_store, short
from minipod.errors import ImageError, InvalidSpec
from minipod.image import reference

if TYPE_CHECKING:
    from minipod.image.dockerbuild import Runner
    from minipod.image.store import Image, ImageStore

NAMESPACE = "default"
FILES = ("Dockerfile", "Containerfile")
# A kubelet tries again what it can't make; a step of a build will not become another one.
HOPELESS = ("CreateContainerError", "CreateContainerConfigError", "ErrImageNeverPull")


@click.command("build")
@click.argument("directories", nargs=-1, type=click.Path(exists=True, file_okay=False))
@click.option(
    "-t", "--tag", "tags", multiple=True, metavar="NAME", help="Of the image; repeatable."
)
@click.option("-f", "--file", default="", metavar="FILE", help="Default: DIRECTORY/Dockerfile.")
@click.option("--build-arg", "arguments", multiple=True, metavar="NAME=VALUE", help="For ARG.")
@click.option("--target", default="", metavar="STAGE", help="Build only up to this stage.")
@click.option("--no-cache", is_flag=True, help="Run each RUN step, also one that ran before.")
@click.option("-q", "--quiet", is_flag=True, help="Print the image's id only.")
@click.pass_context
def build(  # noqa: PLR0913 click's way to hand options over
    ctx: click.Context,
    directories: tuple[str, ...],
    tags: tuple[str, ...],
    file: str,
    arguments: tuple[str, ...],
    target: str,
    no_cache: bool,
    quiet: bool,
) -> None:
    """Build images from directories with a recipe.toml or a Dockerfile; without any, the built-in ones."""
    for tag in tags:
        reference.parse(tag)  # before anything is run
    store = open_store(ctx)
    if not directories:
        _built_in(store, quiet=quiet)
    for directory in directories:
        if not file and os.path.exists(f"{directory}/recipe.toml"):
            _recipe(store, directory, quiet=quiet)
            continue
        builder = _builder(ctx, store, directory, arguments, cached=not no_cache, quiet=quiet)
        image = builder.build(_text(directory, file), tags, target=target)
        _tell(image, quiet=quiet)


def _built_in(store: ImageStore, *, quiet: bool) -> None:
    from minipod.image import build as recipes

    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for image in recipes.build_all(f"{here}/images", store):
        _tell(image, quiet=quiet)


def _recipe(store: ImageStore, directory: str, *, quiet: bool) -> None:
    from minipod.image import build as recipes

    _tell(recipes.build(directory, store), quiet=quiet)


def _tell(image: Image, *, quiet: bool) -> None:
    click.echo(image.id if quiet else f"built {', '.join(image.tags) or short(image.id)}")


def _text(directory: str, file: str) -> str:
    for path in [file] if file else [f"{directory}/{name}" for name in FILES]:
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as found:
            return found.read()
    wanted = file or f"{' nor '.join(('recipe.toml', *FILES))} in {directory}"
    raise InvalidSpec(f"no file {wanted}", hint="minipod image build DIRECTORY, or -f FILE")


def _builder(  # type: ignore[no-untyped-def]  # noqa: ANN202 imported below
    ctx: click.Context,
    store: ImageStore,
    directory: str,
    arguments: Sequence[str],
    *,
    cached: bool,
    quiet: bool,
):
    from minipod.daemon.node import node_status
    from minipod.image.dockerbuild import Builder

    pairs = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals or name in os.environ:
            # as docker: the name alone is a variable of the environment
            pairs[name] = value if equals else os.environ[name]
    running = node_status(options.instance(ctx))["running"]
    return Builder(
        store,
        directory,
        arguments=pairs,
        run=_runner(ctx) if running else None,
        tell=(lambda _: None) if quiet else click.echo,
        cached=cached,
    )


def _runner(ctx: click.Context) -> Runner:
    """Return what runs a command in a pod of the node and yields what its container wrote."""
    from minipod.cli.run import ended_as_by_ctrl_c, follow
    from minipod.cli.run_image import exit_code

    client = options.client(ctx)
    storage = f"{options.instance(ctx).state_dir}/containers"

    @contextlib.contextmanager
    def run(image: Image, command: Sequence[str], env: Mapping[str, str]) -> Iterator[str]:
        name = f"image-build-{os.urandom(4).hex()}"
        container = {
            "name": "run", "image": image.id, "imagePullPolicy": "Never", "command": list(command),
            "env": [{"name": key, "value": value} for key, value in env.items()],
        }  # fmt: skip
        spec = {
            "restartPolicy": "Never", "dnsPolicy": "Default", "containers": [container],
        }  # fmt: skip
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        with ended_as_by_ctrl_c():
            made = client.request("POST", client.path("pods", NAMESPACE), body=pod)
            try:
                ended = follow(client, NAMESPACE, name, hopeless=HOPELESS)
                if code := exit_code(ended):
                    raise ImageError(f"the command ended with code {code}", reason="ErrImageBuild")
                uid = made["metadata"]["uid"]
                (ran,) = client.request("GET", f"/minipod/pods/{uid}")["containers"]
                yield f"{storage}/{ran['id']}/upper"
            finally:
                path = client.path("pods", NAMESPACE, name)
                client.request("DELETE", path, body={"gracePeriodSeconds": 0})

    return run
