"""minipod cp: files in and out of a container, by tar(1) inside it."""

from __future__ import annotations

import os
import sys
import tarfile
import threading
from dataclasses import dataclass
from typing import IO, BinaryIO

import click

from minipod.cli import options
from minipod.cli.channels import run_channels
from minipod.cli.client import Client
from minipod.errors import FailedPrecondition, NotFound


@dataclass(frozen=True, slots=True)
class Place:
    """One side: a path here (pod "") or in a pod."""

    pod: str
    path: str
    namespace: str


@click.command("cp")
@click.argument("source")
@click.argument("target")
@options.namespace_option
@click.option("-c", "--container", default="")
@click.pass_context
def command(ctx: click.Context, source: str, target: str, namespace: str, container: str) -> None:
    """Copy a file or directory: minipod cp FILE POD:PATH, or POD:PATH FILE. Needs tar in the image."""
    a, b = parse(source, namespace), parse(target, namespace)
    if bool(a.pod) == bool(b.pod):
        raise FailedPrecondition("one of the two must be in a pod", hint="minipod cp FILE POD:PATH")
    client = options.client(ctx)
    inside = b if b.pod else a
    container = options.container(client, inside.namespace, inside.pod, container)
    if b.pod:
        upload(client, a.path, b, container)
    else:
        download(client, a, b.path, container)


def parse(text: str, namespace: str) -> Place:
    """Return what POD:PATH, NAMESPACE/POD:PATH or a local path means."""
    pod, colon, path = text.partition(":")
    if not colon or "/" in pod.partition("/")[2] or pod.startswith((".", "/")):
        return Place("", text, "")
    if not path or not pod:
        raise FailedPrecondition(f"{text!r} names no path", hint="POD:PATH")
    space, slash, name = pod.rpartition("/")
    return Place(name, path, space if slash else namespace)


def run_tar(
    client: Client,
    place: Place,
    container: str,
    command: list[str],
    source: int = -1,
    out: BinaryIO | None = None,
) -> int:
    """Run *command* in the pod's container; return its exit code. Raises FailedPrecondition when it can't be run, with another way."""
    query = [("command", word) for word in command] + [("container", container)]
    flags = {"stdin": source >= 0, "stdout": True, "stderr": True}
    query += [(k, str(v).lower()) for k, v in flags.items()]
    path = client.path("pods", place.namespace, place.pod, "exec")
    try:
        return run_channels(
            client.instance.api_socket,
            path,
            query,
            stdin=source >= 0,
            tty=False,
            source=source,
            out=out,
        )
    except FailedPrecondition as e:
        raise FailedPrecondition(e.message, hint=e.hint or other_way(place, container)) from e


def other_way(place: Place, container: str) -> str:
    """Say how to copy where the image has no tar."""
    return (
        f"if its image has no tar: minipod debug {place.pod} -n {place.namespace} --image=busybox:1.36"
        f" --target={container} -c tools -- sleep 1d, then minipod cp -c tools, with /proc/1/root before its path"
    )


def upload(client: Client, path: str, to: Place, container: str) -> None:
    """Copy what is at *path*; into the target when that is a directory, else under the target's name."""
    if not os.path.lexists(path):
        raise NotFound(f"{path}: no such file or directory")
    directory = run_tar(client, to, container, ["test", "-d", to.path]) == 0
    where, name = (to.path, os.path.basename(os.path.abspath(path))) if directory else (
        os.path.dirname(to.path.rstrip("/")) or ".", os.path.basename(to.path.rstrip("/"))
    )  # fmt: skip
    reader, writer = os.pipe()

    failed: list[OSError] = []

    def pack() -> None:
        try:
            with os.fdopen(writer, "wb") as pipe, tarfile.open(fileobj=pipe, mode="w|") as tar:
                tar.add(path, arcname=name)
        except BrokenPipeError:
            pass  # tar in the container ended early: its exit code says so
        except OSError as e:
            failed.append(e)

    packing = threading.Thread(target=pack, daemon=True)
    packing.start()
    code = run_tar(client, to, container, ["tar", "-xmf", "-", "-C", where], source=reader)
    os.close(reader)
    packing.join()
    if failed:
        raise FailedPrecondition(f"{failed[0].filename}: {failed[0].strerror}")
    if code:
        raise FailedPrecondition(f"tar ended with exit code {code} in the container")


def download(client: Client, source: Place, path: str, container: str) -> None:
    """Copy to *path*; into it when it is a directory."""
    name = os.path.basename(source.path.rstrip("/"))
    if name in ("", ".", ".."):
        raise FailedPrecondition(f"{source.path!r} has no name", hint="name the file or directory")
    target = os.path.join(path, name) if os.path.isdir(path) else path
    reader, writer = os.pipe()
    done: list[BaseException] = []

    def unpack() -> None:
        try:
            with os.fdopen(reader, "rb") as pipe, tarfile.open(fileobj=pipe, mode="r|") as tar:
                extract(tar, name, target)
                while pipe.read(1 << 16):
                    pass  # what tar pads its output with
        except (tarfile.TarError, OSError, ValueError, FailedPrecondition) as e:
            done.append(e)  # tarfile raises ValueError for numbers that are none

    unpacking = threading.Thread(target=unpack, daemon=True)
    unpacking.start()
    where = os.path.dirname(source.path.rstrip("/")) or "."
    try:
        with os.fdopen(writer, "wb") as out:
            code = run_tar(
                client, source, container, ["tar", "cf", "-", "-C", where, name], out=out
            )
    except BrokenPipeError:
        code = 0  # whoever unpacks says why
    unpacking.join()
    if code:
        raise FailedPrecondition(f"tar ended with exit code {code} in the container")
    if done:
        raise FailedPrecondition(f"{target}: {done[0]}")


def extract(tar: tarfile.TarFile, name: str, target: str) -> None:
    """Write the members of *tar*, which must be *name* and what is below it, at *target*.

    The archive comes from a container, which may be hostile: no links and no devices (a link could lead the next member out of
    *target*), no path that leaves it, and nothing that is written through a link that was there.
    """
    for member in tar:
        relative = os.path.relpath(os.path.normpath(member.name), name)
        parts = relative.split("/")
        if ".." in parts or os.path.isabs(member.name):
            raise FailedPrecondition(f"the archive has a path outside of {name}: {member.name!r}")
        path = target if relative == "." else os.path.join(target, relative)
        if member.isdir():
            _refuse_links(target, parts if relative != "." else [])
            os.makedirs(path, exist_ok=True)
        elif member.isreg():
            _refuse_links(target, parts[:-1])
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None  # it is a regular file
            with content:
                _write(path, content, member.mode)
        else:
            print(
                f"warning: skipping {member.name!r}: neither a file nor a directory",
                file=sys.stderr,
            )


def _refuse_links(target: str, parts: list[str]) -> None:
    path = target
    for part in parts:
        path = os.path.join(path, part)
        if os.path.islink(path):
            raise FailedPrecondition(f"{path} is a symbolic link: not written through")


def _write(path: str, content: IO[bytes], mode: int) -> None:
    import shutil

    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, mode & 0o777)
    with os.fdopen(fd, "wb") as out:
        shutil.copyfileobj(content, out)
