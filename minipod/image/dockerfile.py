"""The part of the Dockerfile syntax that we build, as values. Pure: no file is read here.

    FROM scratch|image [AS name]      ARG name[=default]      ENV, LABEL name=value ... or name value
    COPY [--from=stage|image] [--chown=user[:group]] [--chmod=mode] source... target      (also as JSON)
    ADD, the same of local files; archives are unpacked
    RUN command, CMD, ENTRYPOINT, SHELL: a JSON list, or text for the shell
    USER  WORKDIR  EXPOSE port[/protocol]...  VOLUME path...  STOPSIGNAL name

Comments, continued lines, here-documents (`dockerlines`) and $name, ${name}, ${name:-word}, ${name:+word} are understood.
HEALTHCHECK is taken and ignored: nothing of a node reads it. Everything else is an error that names its line: ONBUILD,
other escapes, flags we do not know. Source: docs.docker.com/reference/dockerfile.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minipod.errors import InvalidSpec
from minipod.image.dockerlines import Document, Line, is_document, split

IGNORED = {"HEALTHCHECK": "write probes into the pod's manifest"}
KNOWN = (
    "FROM ARG ENV LABEL COPY ADD RUN CMD ENTRYPOINT SHELL USER WORKDIR EXPOSE VOLUME STOPSIGNAL HEALTHCHECK"
).split()
HINTS = {
    "MAINTAINER": 'LABEL org.opencontainers.image.authors="..."',
    "ONBUILD": "write the steps into the Dockerfile that needs them",
}
FLAGS = {
    "FROM": ("platform",),
    "COPY": ("from", "chown", "chmod", "link"),  # link changes how, not what
    "ADD": ("chown", "chmod", "link"),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
}
EXPANDED = frozenset("FROM ENV LABEL COPY ADD USER WORKDIR EXPOSE VOLUME STOPSIGNAL ARG".split())
LISTS = frozenset(("RUN", "CMD", "ENTRYPOINT", "SHELL"))
SHELL = ("/bin/sh", "-c")
DOLLAR = "\ue000"  # a private code point: no text has it
_VARIABLE = re.compile(
    r"\\\$|\$(?:(?P<name>\w+)|\{(?P<braced>\w+)(?::(?P<how>[-+])(?P<word>[^}]*))?\})"
)
_PAIR = re.compile(r"""("[^"]*"|'[^']*'|[^\s='"])+=""")  # else it is the old form: name value
_PORT = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(/(tcp|udp|sctp))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction; *words* are its arguments, *text* all of them as they are written."""

    line: int  # of its first line, from 1
    name: str  # upper case
    words: tuple[str, ...]
    text: str
    is_list: bool = False  # written as a JSON list
    flags: Mapping[str, str]
    documents: tuple[Document, ...] = ()

    @property
    def is_script(self) -> bool:
        """Whether a here-document is all there is: RUN <<EOF."""
        return bool(self.documents) and is_document(self.text)

    def fail(self, why: str, *, hint: str = "") -> InvalidSpec:
        """Return the error for this line."""
        return InvalidSpec(f"{self.name}: {why}", path=f"line {self.line}", hint=hint)

    def expanded(self, variables: Mapping[str, str]) -> tuple[str, ...]:
        """Return the words with variables replaced, where this instruction does so."""
        if self.name not in EXPANDED:
            return self.words
        return tuple(expand(word, variables) for word in self.words)

    def command(self, shell: Sequence[str]) -> list[str]:
        """Return argv of RUN, CMD and ENTRYPOINT: the list, or the text for the shell."""
        if self.is_list:
            return list(self.words)
        if self.is_script:
            return [*shell, self.documents[0].text]
        return [*shell, "\n".join((self.text, *(document.raw for document in self.documents)))]


def parse(text: str) -> list[Instruction]:
    """Parse a Dockerfile. Raises InvalidSpec, whose path is the line."""
    found = [_instruction(line) for line in split(text)]
    first = next((i for i in found if i.name != "ARG"), None)
    if first is None or first.name != "FROM":
        line = first.line if first else 1
        raise InvalidSpec("the first instruction must be FROM", path=f"line {line}")
    return found


def _instruction(line: Line) -> Instruction:
    name, *rests = line.text.split(None, 1)
    name, rest = name.upper(), "".join(rests).strip()
    here = f"line {line.number}"
    if name not in KNOWN:
        hint = HINTS.get(name, f"known: {', '.join(KNOWN)}")
        raise InvalidSpec(f"{name} is not supported", path=here, hint=hint)
    flags: dict[str, str] = {}
    while found := re.match(r"--([a-z-]+)(?:=(\S*))?\s+", rest):
        if found[1] not in FLAGS.get(name, ()):
            raise InvalidSpec(f"{name}: --{found[1]} is not supported", path=here)
        flags[found[1]] = found[2] or ""
        rest = rest[found.end() :]
    if not rest:
        raise InvalidSpec(f"{name} needs arguments", path=here)
    words, is_list = _words(name, rest, here)
    step = Instruction(
        line=line.number, name=name, words=words, text=rest, is_list=is_list, flags=flags, documents=line.documents,
    )  # fmt: skip
    if name == "RUN" and step.is_script and line.documents[0].text.startswith("#!"):
        raise step.fail("a here-document with #! is not supported", hint="RUN interpreter <<EOF")
    return step


def _words(name: str, rest: str, here: str) -> tuple[tuple[str, ...], bool]:
    if rest.startswith("[") and (name in LISTS or name in ("COPY", "ADD", "VOLUME")):
        try:
            listed = json.loads(rest)
        except ValueError:
            listed = None  # as Docker: text for the shell
        if isinstance(listed, list) and all(isinstance(word, str) for word in listed):
            return tuple(listed), True
    if name in LISTS or name in IGNORED:
        return (rest,), False
    if name in ("ENV", "LABEL") and not _PAIR.match(rest):
        key, _, value = rest.partition(" ")
        return (f"{key}={value.strip()}",), False
    try:
        # No quote is left for the expansion to see: '$x' in single quotes stays, as in a shell.
        return tuple(_split(rest)), False
    except ValueError as e:
        raise InvalidSpec(f"{name}: {str(e).lower()}", path=here) from e


def _split(text: str) -> Iterator[str]:
    """Split like a shell; a dollar that is not to be expanded (quoted, escaped) becomes DOLLAR."""
    protected = re.sub(r"'[^']*'", lambda quoted: quoted[0].replace("$", DOLLAR), text)
    lexer = shlex.shlex(protected.replace("\\$", DOLLAR), posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    yield from lexer


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace $name, ${name}, ${name:-word} and ${name:+word}; an unknown one is empty."""

    def value(found: re.Match[str]) -> str:
        if found[0] == "\\$":
            return "$"
        known = variables.get(found["name"] or found["braced"], "")
        if found["how"] == "-":
            return known or found["word"]
        return (found["word"] if known else "") if found["how"] == "+" else known

    return _VARIABLE.sub(value, text).replace(DOLLAR, "$")


def configure(config: dict[str, Any], step: Instruction, variables: Mapping[str, str]) -> bool:
    """Apply *step* to an image's "config" if that is all it does; tell whether it was. Raises InvalidSpec."""
    words = step.expanded(variables)
    match step.name:
        case "ENV":
            old = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
            new = old | dict(_pair(step, word) for word in words)
            config["Env"] = [f"{name}={value}" for name, value in new.items()]
        case "LABEL":
            config["Labels"] = (config.get("Labels") or {}) | dict(_pair(step, w) for w in words)
        case "CMD" | "ENTRYPOINT" | "SHELL":
            _command(config, step)
        case "USER":
            config["User"] = _one(step, words)
        case "STOPSIGNAL":
            config["StopSignal"] = _one(step, words)
        case "EXPOSE":
            _expose(config, step, words)
        case "VOLUME":
            config["Volumes"] = (config.get("Volumes") or {}) | {word: {} for word in words}
        case _:
            return False
    return True


def _command(config: dict[str, Any], step: Instruction) -> None:
    if step.name == "SHELL" and not step.is_list:
        raise step.fail('it must be a JSON list, like ["/bin/sh", "-c"]')
    config[step.name.capitalize()] = step.command(config.get("Shell") or SHELL)
    if step.name == "ENTRYPOINT":
        config.pop("Cmd", None)  # it was the base image's, and made for its entrypoint


def _expose(config: dict[str, Any], step: Instruction, words: Sequence[str]) -> None:
    for word in words:
        if not _PORT.fullmatch(word):
            raise step.fail(f"{word!r} is not a port", hint="for example 8080 or 53/udp")
    ports: dict[str, dict[str, str]] = {
        word if "/" in word else f"{word}/tcp": {} for word in words
    }
    config["ExposedPorts"] = (config.get("ExposedPorts") or {}) | ports


def _pair(step: Instruction, word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise step.fail(f"{word!r} is not name=value")
    return name, value


def _one(step: Instruction, words: Sequence[str]) -> str:
    if len(words) != 1:
        raise step.fail(f"expected one argument, got {len(words)}")
    return words[0]


def config_of(lines: Sequence[str]) -> dict[str, Any]:
    """Return the "config" that instructions such as `CMD ["sh"]` make. Raises InvalidSpec."""
    config: dict[str, Any] = {}
    for number, text in enumerate(lines, 1):
        step = _instruction(Line(number=number, text=text.strip()))
        if step.name == "WORKDIR":
            config["WorkingDir"] = _one(step, step.expanded({}))
        elif not configure(config, step, {}):
            raise step.fail("only instructions that change the configuration are possible here")
    return config
