"""The CRI's protobuf messages, made from `messages.txt` at start: names, numbers and types are all that the wire needs.

Both package names hold the same messages. A message class of one is not one of the other, so every service works with the `Messages` it
was made for. Fields that a newer client adds stay in the message, unknown, as protobuf has it.
"""

from __future__ import annotations

import functools
import importlib.resources
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

V1: Final = "runtime.v1"
V1ALPHA2: Final = "runtime.v1alpha2"

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS: Final = {
    "string": _FIELD.TYPE_STRING, "bool": _FIELD.TYPE_BOOL, "bytes": _FIELD.TYPE_BYTES, "double": _FIELD.TYPE_DOUBLE,
    "int32": _FIELD.TYPE_INT32, "int64": _FIELD.TYPE_INT64, "uint32": _FIELD.TYPE_UINT32, "uint64": _FIELD.TYPE_UINT64,
}  # fmt: skip

# The enum Signal counts signals by name: SIGNAL_RUNTIME_DEFAULT is 0, SIGABRT 1, and so on.
SIGNALS: Final = (
    "RUNTIME_DEFAULT", *(f"SIG{name}" for name in (
        "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP"
        " TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN").split()),
    *(f"SIGRTMINPLUS{n}" for n in range(1, 16)), *(f"SIGRTMAXMINUS{n}" for n in range(14, 0, -1)), "SIGRTMAX",
)  # fmt: skip


class Messages:
    """The messages of one package: `pb.PodSandbox` is a class, `pb.SANDBOX_READY` a number, `pb.name("PodSandboxState", 0)` its name."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._enums = {"Signal": tuple(f"SIGNAL_{s}" for s in SIGNALS)}
        fields: dict[str, list[str]] = {}
        for name, words in _table():
            if name.startswith("enum "):
                self._enums[name.removeprefix("enum ")] = tuple(words)
            else:
                fields[name] = words
        file = self._file(fields)
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        self._known: dict[str, Any] = {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
            for name in fields
        }
        for values in self._enums.values():
            self._known |= {value: number for number, value in enumerate(values)}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._known:
            raise AttributeError(name)
        return self._known[name]

    def name(self, enum: str, number: int) -> str:
        """Return the name of an enum's value. Raises IndexError for a number that it does not have."""
        return self._enums[enum][number]

    def _file(self, messages: dict[str, list[str]]) -> Any:
        file = descriptor_pb2.FileDescriptorProto(
            name=f"{self.package}.proto", package=self.package, syntax="proto3"
        )
        for name, values in self._enums.items():
            # Values of different enums may share a name (POD): as C++ scopes them, each enum lives in a message of its own.
            enum = file.message_type.add(name=f"{name}Enum").enum_type.add(name=name)
            for number, value in enumerate(values):
                enum.value.add(name=value, number=number)
        for name, words in messages.items():
            message = file.message_type.add(name=name)
            for word in words:
                self._add_field(message, word)
        return file

    def _add_field(self, message: Any, word: str) -> None:
        name, _, rest = word.partition("=")
        number, _, kind = rest.partition(":")
        field = message.field.add(name=name, number=int(number))
        field.label = _FIELD.LABEL_REPEATED if kind[0] in "[{" else _FIELD.LABEL_OPTIONAL
        if kind[0] == "{":
            camel = "".join(part.capitalize() for part in name.split("_"))
            entry = message.nested_type.add(name=f"{camel}Entry")
            entry.options.map_entry = True
            entry.field.add(
                name="key", number=1, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL
            )
            self._set_type(
                entry.field.add(name="value", number=2, label=_FIELD.LABEL_OPTIONAL), kind[1:-1]
            )
            field.type = _FIELD.TYPE_MESSAGE
            field.type_name = f".{self.package}.{message.name}.{entry.name}"
        else:
            self._set_type(field, kind.strip("[]"))

    def _set_type(self, field: Any, kind: str) -> None:
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        elif kind in self._enums:
            field.type, field.type_name = _FIELD.TYPE_ENUM, f".{self.package}.{kind}Enum.{kind}"
        else:
            field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{self.package}.{kind}"


@functools.cache
def of_package(package: str) -> Messages:
    """Return the messages of a package, made once."""
    return Messages(package)


def _table() -> list[tuple[str, list[str]]]:
    """Read the table: a name at the beginning of a line, its words on the indented lines that follow."""
    found: list[tuple[str, list[str]]] = []
    text = importlib.resources.files(__package__).joinpath("messages.txt").read_text("utf-8")
    for line in text.splitlines():
        if line.startswith(" "):
            found[-1][1].extend(line.split())
        elif line and not line.startswith("#"):
            found.append((line, []))
    return found
