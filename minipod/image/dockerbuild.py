"""Building an image from a directory with a Dockerfile: each step that writes files is a layer.

    FROM --> root over the image's layers (snapshot.scratch) --COPY, WORKDIR--> what overlayfs wrote --commit--> layer
                                    RUN: an image of what is there so far --runner--> what the container wrote --commit--> layer

The runner is the caller's: it runs a command in a container of an image and yields the container's upper
directory. Images made on the way have no name and are dropped at the end, but for stages in which a step ran (`buildcache`). The
same files, the same base and the same results of RUN give the same image id: members are sorted, times fixed.
"""

from __future__ import annotations

import contextlib
import copy
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from minipod.errors import ImageError, InvalidSpec, MinipodError
from minipod.image import context, dockerfile, passwd
from minipod.image.adding import add_archive
from minipod.image.buildcache import RUNS, RunCache, run_key
from minipod.image.content import Descriptor
from minipod.image.dockerfile import Instruction
from minipod.image.dockerlines import is_document
from minipod.image.layer import EPOCH, Skip, commit
from minipod.image.registry import platform
from minipod.image.store import Image, ImageStore
from minipod.linux import files

CREATED = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH))
# What a container's set-up makes to mount over, and no step wrote.
MOUNTED = ("etc/hostname", "etc/hosts", "etc/resolv.conf", "dev/termination-log")
MOUNTPOINTS = ("dev", "proc", "sys")

Runner = Callable[[Image, Sequence[str], Mapping[str, str]], AbstractContextManager[str]]
Tell = Callable[[str], None]


@dataclass(slots=True)
class Stage:
    """One FROM and what its steps made of it so far."""

    config: dict[str, Any]  # "config" of the image configuration
    layers: list[Descriptor] = field(default_factory=list)
    diff_ids: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)  # of ARG
    runs: dict[str, str] = field(default_factory=dict)  # see buildcache

    def known(self) -> dict[str, str]:
        """Return what $name can mean; ENV wins over ARG."""
        env = dict(entry.partition("=")[::2] for entry in self.config.get("Env") or ())
        return self.variables | env


class Builder:
    """One build. *run* is None where no step may RUN."""

    def __init__(
        self,
        store: ImageStore,
        directory: str,
        *,
        arguments: Mapping[str, str],
        run: Runner | None,
        tell: Tell,
        cached: bool = True,
    ) -> None:
        self._store = store
        self._directory = directory
        self._arguments = dict(arguments)  # --build-arg
        self._unused = set(arguments)  # that no ARG has asked for yet
        self._automatic = _platform_arguments()
        self._run = run
        self._tell = tell
        self._globals: dict[str, str] = {}  # ARG before the first FROM
        self._stages: dict[str, Stage] = {}  # by name and by number
        self._made: list[Image] = []  # on the way
        self._kept: set[str] = set()  # ids of those that stay
        self._cache = RunCache(store, used=cached)

    def build(self, text: str, tags: Sequence[str], *, target: str = "") -> Image:
        """Build what the Dockerfile *text* says, to the stage *target* or the last. Raises InvalidSpec, ImageError."""
        steps = dockerfile.parse(text)
        try:
            with self._store.writing(), self._keeping():
                stage = self._steps(steps, target)
                if self._unused:
                    self._tell(
                        f"no ARG in the Dockerfile is called {', '.join(sorted(self._unused))}"
                    )
                return self._image(stage, tags)
        finally:
            self._forget()

    def _steps(self, steps: Sequence[Instruction], target: str) -> Stage:
        stage = None
        for number, step in enumerate(steps, 1):
            self._tell(f"[{number}/{len(steps)}] {step.name} {step.text}")
            if step.name == "FROM":
                if target and stage is self._stages.get(target, object()):
                    break
                stage = self._from(step)
            elif stage is None:
                self._argument(step, self._globals, {})
            else:
                self._step(stage, step)
        if stage is None or (target and stage is not self._stages.get(target)):
            raise InvalidSpec(f"no stage {target!r}", path="--target")
        return stage

    def _from(self, step: Instruction) -> Stage:
        words = step.expanded(self._automatic | self._globals)
        wanted = dockerfile.expand(step.flags.get("platform", ""), self._automatic | self._globals)
        here = platform.of_machine()
        if wanted and platform.rank(here, platform.parse(wanted)) is None:
            raise step.fail(f"--platform={wanted}: only {here} can be built here")
        if len(words) not in (1, 3) or (len(words) == 3 and words[1].lower() != "as"):
            raise step.fail("expected an image, or: image AS name")
        if words[0] == "scratch":
            stage = Stage(config={})
        elif words[0] in self._stages:
            stage = copy.deepcopy(self._stages[words[0]])
            stage.variables = {}
        else:
            stage = self._of_image(step, words[0])
        if len(words) == 3:
            self._stages[words[2]] = stage
        self._stages[str(sum(key.isdigit() for key in self._stages))] = stage
        return stage

    def _of_image(self, step: Instruction, name: str) -> Stage:
        image = self._store.resolve(name)
        if image is None:
            raise step.fail(f"no image {name}", hint=f"minipod image pull {name}")
        raw = self._store.raw_config(image)
        if triggers := (raw.get("config") or {}).get("OnBuild"):
            raise step.fail(f"{name} has ONBUILD steps: {triggers[0]}", hint="write them here")
        return Stage(
            config=raw.get("config") or {},
            layers=list(self._store.manifest(image).layers),
            diff_ids=list(self._store.config(image).diff_ids),
            history=list(raw.get("history") or ()),
        )

    def _step(self, stage: Stage, step: Instruction) -> None:
        before = len(stage.layers)
        try:
            if step.name == "ARG":
                self._argument(step, stage.variables, stage.known())
            elif step.name == "RUN":
                self._run_step(stage, step)
            elif step.name in ("COPY", "ADD"):
                self._copy(stage, step)
            elif step.name in dockerfile.IGNORED:
                self._tell(
                    f"line {step.line}: {step.name} is ignored: {dockerfile.IGNORED[step.name]}"
                )
                return
            elif step.name == "WORKDIR":
                self._workdir(stage, step)
            else:
                dockerfile.configure(stage.config, step, stage.known())
        except InvalidSpec as e:
            if e.path.startswith("line "):
                raise
            raise step.fail(e.message, hint=e.hint) from e
        except (OSError, MinipodError) as e:
            why = (
                e.message
                if isinstance(e, MinipodError)
                else f"{e.filename}: {(e.strerror or '').lower()}"
            )
            hint = e.hint if isinstance(e, MinipodError) else ""
            message = f"line {step.line}: {step.name}: {why}"
            raise ImageError(message, reason="ErrImageBuild", hint=hint) from e
        done = {"created": CREATED, "created_by": f"{step.name} {step.text}"}
        empty = {"empty_layer": True} if len(stage.layers) == before else {}
        stage.history.append(done | empty)

    def _argument(
        self, step: Instruction, variables: dict[str, str], known: Mapping[str, str]
    ) -> None:
        for word in step.expanded(known):
            name, equals, default = word.partition("=")
            given = self._automatic | self._arguments
            self._unused.discard(name)
            value = given.get(name, default if equals else self._globals.get(name))
            if value is not None:
                variables[name] = value

    # -- steps that write

    def _workdir(self, stage: Stage, step: Instruction) -> None:
        words = step.expanded(stage.known())
        if len(words) != 1:
            raise step.fail(f"expected one path, got {len(words)}")
        path = _absolute(stage, words[0])
        stage.config["WorkingDir"] = path
        with self._store.scratch(self._so_far(stage)) as (root, upper):
            os.close(files.open_or_make_directory(root, path, 0o755))
            self._commit(stage, upper)

    def _copy(self, stage: Stage, step: Instruction) -> None:
        *sources, target = step.expanded(stage.known())
        if not sources:
            raise step.fail("expected sources and a target")
        slash = "/" if target.endswith("/") or target == "." or len(sources) > 1 else ""
        target = _absolute(stage, target).rstrip("/") + slash
        if step.name == "ADD" and (
            remote := [s for s in sources if "://" in s or s.startswith("git@")]
        ):
            raise step.fail(f"{remote[0]} is not a local file", hint="download it in a RUN step")
        patterns = [word for word in sources if not (step.documents and is_document(word))]
        with contextlib.ExitStack() as stack:
            root, upper = stack.enter_context(self._store.scratch(self._so_far(stage)))
            attributes = self._attributes(step, root)
            if step.documents:
                source = stack.enter_context(_documents(step, stage.known()))
                names = [document.word for document in step.documents]
                context.copy(source, names, root, target, attributes, ignored=_nothing)
            if patterns:
                source, ignored = self._source(stack, step)
                found = context.find(source, patterns, ignored)
                if step.name == "ADD":
                    found = self._unpacked(step, source, found, root, target)
                context.copy(source, found, root, target, attributes, ignored=ignored)
            self._commit(stage, upper)

    def _unpacked(
        self, step: Instruction, source: int, paths: Sequence[str], root: int, target: str
    ) -> list[str]:
        """Unpack the archives among *paths*; return the others."""
        others = []
        for path in paths:
            if not add_archive(source, path, root, target, self._store.limits):
                others.append(path)
            elif step.flags.keys() - {"link"}:
                raise step.fail(f"{path} is an archive: it says owners and modes itself")
        return others

    def _source(
        self, stack: contextlib.ExitStack, step: Instruction
    ) -> tuple[int, context.Ignored]:
        """Return the directory that COPY reads from: the build's, a stage's or an image's root."""
        name = step.flags.get("from", "")
        if name:
            image = (
                self._so_far(self._stages[name])
                if name in self._stages
                else self._store.resolve(name)
            )
            if image is None:
                raise step.fail(f"no stage and no image {name}")
            root, _ = stack.enter_context(self._store.scratch(image))
            return root, _nothing
        fd = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        try:
            with open(f"{self._directory}/.dockerignore", encoding="utf-8") as file:
                return fd, context.read_ignore(file.read())
        except FileNotFoundError:
            return fd, _nothing

    def _attributes(self, step: Instruction, root: int) -> context.Attributes:
        mode = step.flags.get("chmod")
        if mode is not None and not (mode.isdigit() and set(mode) <= set("01234567")):
            raise step.fail(f"--chmod={mode} is not an octal mode")
        uid = gid = 0
        if owner := step.flags.get("chown"):
            user = passwd.resolve(owner, _read(root, "etc/passwd"), _read(root, "etc/group"))
            uid, gid = user.uid, user.gid if ":" in owner else user.uid
        return context.Attributes(uid=uid, gid=gid, mode=int(mode, 8) if mode else None)

    def _run_step(self, stage: Stage, step: Instruction) -> None:
        image = self._so_far(stage)
        if image is None:
            raise step.fail("there is nothing to run in an empty image")
        command = step.command(stage.config.get("Shell") or dockerfile.SHELL)
        key = run_key(image.id, command, stage.variables)
        made = self._cache.layers(key)
        if made is not None:
            self._tell("  as it ran before (--no-cache: again)")
            stage.layers += made
            stage.diff_ids += [layer.digest for layer in made]
        elif self._run is None:
            raise step.fail("it needs a running node", hint="minipod up")
        else:
            before = len(stage.layers)
            with self._run(image, command, stage.variables) as upper:
                self._commit(stage, upper, skip=_mounted)
            made = stage.layers[before:]
        stage.runs[key] = made[0].digest if made else ""

    def _commit(self, stage: Stage, upper: str, *, skip: Skip | None = None) -> None:
        layer = commit(self._store.content, upper, **({"skip": skip} if skip else {}))
        if layer is not None:
            stage.layers.append(layer)
            stage.diff_ids.append(layer.digest)

    # -- images

    def _so_far(self, stage: Stage) -> Image | None:
        """Return a nameless image of what the steps made until now; None: nothing."""
        if not stage.layers:
            return None
        image = self._image(stage, ())
        self._made.append(image)
        return image

    def _image(self, stage: Stage, tags: Sequence[str]) -> Image:
        here = platform.of_machine()
        raw = {
            "architecture": here.architecture,
            **({"variant": here.variant} if here.variant else {}),
            "os": "linux",
            "created": CREATED,
            "config": stage.config,
            "rootfs": {"type": "layers", "diff_ids": stage.diff_ids},
            "history": stage.history,
            **({RUNS: stage.runs} if stage.runs else {}),
        }
        return self._store.put(raw, stage.layers, tags)

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[None]:
        """Keep the stages in which a step ran, also of a build that failed later: the next one's cache."""
        try:
            yield
        finally:
            self._kept |= {self._image(s, ()).id for s in self._stages.values() if s.runs}

    def _forget(self) -> None:
        """Drop what was made on the way, but for what is kept or has a name: an older build may have made the same."""
        nameless = {i.id for i in self._store.list() if not i.tags and not i.digests}
        self._store.drop(({i.id for i in self._made} & nameless) - self._kept)


def _platform_arguments() -> dict[str, str]:
    """Return what ARG has without being told (docs.docker.com/reference/dockerfile, "Automatic platform ARGs")."""
    here = platform.of_machine()
    parts = {
        "PLATFORM": str(here),
        "OS": here.os,
        "ARCH": here.architecture,
        "VARIANT": here.variant,
    }
    return {f"{side}{part}": value for side in ("BUILD", "TARGET") for part, value in parts.items()}


def _absolute(stage: Stage, path: str) -> str:
    return os.path.normpath(os.path.join("/", stage.config.get("WorkingDir") or "", path))


def _nothing(path: str) -> bool:
    del path
    return False


@contextlib.contextmanager
def _documents(step: Instruction, variables: Mapping[str, str]) -> Iterator[int]:
    """Yield a directory (an fd) with the here-documents of *step* as files."""
    with tempfile.TemporaryDirectory(prefix="minipod-build-") as here:
        for document in step.documents:
            text = (
                dockerfile.expand(document.text, variables) if document.expands else document.text
            )
            with open(f"{here}/{document.word}", "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(file.name, 0o644)
        fd = os.open(here, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)


def _mounted(path: str, found: os.stat_result) -> bool:
    """Leave out the empty files and directories that were made to mount something over."""
    if path in MOUNTED:
        return stat.S_ISREG(found.st_mode) and not found.st_size
    return path.startswith(tuple(f"{name}/" for name in MOUNTPOINTS))


def _read(root: int, path: str) -> bytes:
    try:
        fd = files.open_file_in_root(root, path)
    except OSError:
        return b""
    with os.fdopen(fd, "rb") as file:
        return file.read(1 << 20)
