"""The part of the Dockerfile syntax that we build, as values. Pure: no file is read here.

    FROM scratch|image [AS name]      ARG name[=default]      ENV, LABEL name=value ... or name value
    COPY [--from=stage|image] [--chown=user[:group]] [--chmod=mode] source... target      (also as JSON)
    RUN command, CMD, ENTRYPOINT, SHELL: a JSON list, or text for the shell
    USER  WORKDIR  EXPOSE port[/protocol]...  VOLUME path...  STOPSIGNAL name

Comments, continued lines (a backslash at the end) and $name, ${name}, ${name:-word}, ${name:+word} are understood.
Everything else is an error that names its line: ADD, HEALTHCHECK, ONBUILD, here-documents, other escapes,
flags we do not know. Source: docs.docker.com/reference/dockerfile.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minipod.errors import InvalidSpec

KNOWN = (
    "FROM ARG ENV LABEL COPY RUN CMD ENTRYPOINT SHELL USER WORKDIR EXPOSE VOLUME STOPSIGNAL"
).split()
HINTS = {
    "ADD": "COPY takes local files; download or unpack in a RUN step",
    "HEALTHCHECK": "write probes into the pod's manifest",
    "MAINTAINER": 'LABEL org.opencontainers.image.authors="..."',
    "ONBUILD": "write the steps into the Dockerfile that needs them",
}
FLAGS = {"COPY": ("from", "chown", "chmod")}
EXPANDED = frozenset("FROM ENV LABEL COPY USER WORKDIR EXPOSE VOLUME STOPSIGNAL ARG".split())
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
        return list(self.words) if self.is_list else [*shell, self.text]


def parse(text: str) -> list[Instruction]:
    """Parse a Dockerfile. Raises InvalidSpec, whose path is the line."""
    found = [_instruction(line, words) for line, words in _logical_lines(text)]
    first = next((i for i in found if i.name != "ARG"), None)
    if first is None or first.name != "FROM":
        line = first.line if first else 1
        raise InvalidSpec("the first instruction must be FROM", path=f"line {line}")
    return found


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number, text) with comments left out and continued lines joined."""
    start, parts = 0, []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("#"):
            directive = re.fullmatch(r"#\s*escape\s*=\s*(\S+)", stripped)
            if directive and directive[1] != "\\":
                raise InvalidSpec(f"escape={directive[1]} is not supported", path=f"line {number}")
            continue
        if not stripped:
            continue
        start = start or number
        if stripped.endswith("\\"):
            parts.append(stripped[:-1])
            continue
        yield start, "".join([*parts, stripped])
        start, parts = 0, []
    if parts:
        yield start, "".join(parts)


def _instruction(line: int, text: str) -> Instruction:
    name, _, rest = text.partition(" ")
    name, rest = name.upper(), rest.strip()
    here = f"line {line}"
    if name not in KNOWN:
        hint = HINTS.get(name, f"known: {', '.join(KNOWN)}")
        raise InvalidSpec(f"{name} is not supported", path=here, hint=hint)
    if name in ("RUN", "COPY") and re.search(r"(^|\s)<<-?[\"']?\w", rest):
        raise InvalidSpec(f"{name}: here-documents are not supported", path=here)
    flags: dict[str, str] = {}
    while found := re.match(r"--([a-z-]+)(?:=(\S*))?\s+", rest):
        if found[1] not in FLAGS.get(name, ()):
            raise InvalidSpec(f"{name}: --{found[1]} is not supported", path=here)
        flags[found[1]] = found[2] or ""
        rest = rest[found.end() :]
    if not rest:
        raise InvalidSpec(f"{name} needs arguments", path=here)
    words, is_list = _words(name, rest, here)
    return Instruction(line=line, name=name, words=words, text=rest, is_list=is_list, flags=flags)


def _words(name: str, rest: str, here: str) -> tuple[tuple[str, ...], bool]:
    if rest.startswith("[") and (name in LISTS or name in ("COPY", "VOLUME")):
        try:
            listed = json.loads(rest)
        except ValueError:
            listed = None  # as Docker: text for the shell
        if isinstance(listed, list) and all(isinstance(word, str) for word in listed):
            return tuple(listed), True
    if name in LISTS:
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
        step = _instruction(number, text.strip())
        if step.name == "WORKDIR":
            config["WorkingDir"] = _one(step, step.expanded({}))
        elif not configure(config, step, {}):
            raise step.fail("only instructions that change the configuration are possible here")
    return config
