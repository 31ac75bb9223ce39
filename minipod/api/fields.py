"""Errors of fields, all at once: the path, what is wrong, in Kubernetes' words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from minipod.errors import InvalidSpec

_VOLUME_NAMES = re.compile(r"spec\.volumes(\[\d+\](\.name)?)?")


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field, like `spec.containers[0].imagee` and `unknown field`."""

    path: str
    message: str
    reason: str = "FieldValueInvalid"  # metav1.CauseType

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message

    def cause(self) -> dict[str, str]:
        """Return it as a metav1.StatusCause."""
        return {"reason": self.reason, "message": self.message, "field": self.path}


class FieldErrors(InvalidSpec):
    """Everything that is wrong with one object."""

    def __init__(self, what: str, fields: list[FieldError]) -> None:
        texts = [str(f) for f in fields]
        listed = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
        super().__init__(f"{what} is invalid: {listed}")
        self.fields = fields


def own_faults(found: Iterable[FieldError], mistyped: Iterable[str]) -> Iterator[FieldError]:
    """Leave out what only follows from values that had the wrong type, at the paths *mistyped*, and so were taken away.

    That is: errors at or below such a path, what is required there or right above, and mounts of volumes whose names are unknown.
    """
    gone = tuple(mistyped)
    nameless = any(_VOLUME_NAMES.fullmatch(path) for path in gone)
    for error in found:
        missing = error.reason == "FieldValueRequired"
        if any(_below(error.path, g) or (missing and _below(g, error.path)) for g in gone):
            continue
        if error.reason == "FieldValueNotFound" and nameless:
            continue
        yield error


def _below(path: str, top: str) -> bool:
    return path == top or path.startswith((f"{top}.", f"{top}["))
