"""Errors to metav1.Status, in one place."""

from __future__ import annotations

from typing import Any

from minipod import errors
from minipod.api.fields import FieldErrors

CODES: dict[type[errors.MinipodError], tuple[int, str]] = {
    errors.Unauthorized: (401, "Unauthorized"),
    errors.Forbidden: (403, "Forbidden"),
    errors.NotFound: (404, "NotFound"),
    errors.AlreadyExists: (409, "AlreadyExists"),
    errors.Conflict: (409, "Conflict"),
    errors.Gone: (410, "Expired"),
    errors.FailedPrecondition: (400, "BadRequest"),
    errors.InvalidSpec: (422, "Invalid"),
    errors.Unavailable: (503, "ServiceUnavailable"),
    errors.DeadlineExceeded: (504, "Timeout"),
    errors.ImageError: (404, "NotFound"),
}


def failure(e: Exception) -> dict[str, Any]:
    """Return the Status object that tells *e*."""
    if isinstance(e, FieldErrors):
        return _status(422, "Invalid", e.message, {"causes": [c.cause() for c in e.fields]})
    for kind, (code, reason) in CODES.items():
        if isinstance(e, kind):
            return _status(code, reason, e.message, {"hint": e.hint} if e.hint else {})
    if isinstance(e, errors.MinipodError):
        return _status(500, "InternalError", e.message, {"hint": e.hint} if e.hint else {})
    return _status(500, "InternalError", f"{type(e).__name__}: {e}", {})


def bad_request(message: str) -> dict[str, Any]:
    """Return the Status for a request that can't be understood."""
    return _status(400, "BadRequest", message, {})


def _status(code: int, reason: str, message: str, details: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code, **({"details": details} if details else {}),
    }  # fmt: skip
