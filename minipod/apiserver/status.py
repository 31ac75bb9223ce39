"""Errors to metav1.Status, in one place: Kubernetes' codes, reasons and causes (apimachinery/pkg/api/errors/errors.go)."""

from __future__ import annotations

import re
from typing import Any

from minipod import errors
from minipod.api.fields import FieldErrors
from minipod.apiserver.requestinfo import RequestInfo

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

NO_RESOURCE = "the server could not find the requested resource"
HTTP_REASONS = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed",
    406: "NotAcceptable", 409: "Conflict", 410: "Expired", 413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType", 422: "Invalid", 429: "TooManyRequests", 500: "InternalError",
    503: "ServiceUnavailable", 504: "Timeout",
}  # fmt: skip


class ApiError(errors.MinipodError):
    """An answer of the HTTP face: *code* and what a client's program reads of it."""

    def __init__(
        self, code: int, message: str, *, reason: str = "", details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason or HTTP_REASONS.get(code, "")
        self.details = details or {}


def bad_request(message: str) -> ApiError:
    return ApiError(400, message)


def not_found() -> ApiError:
    """The path leads nowhere."""
    return ApiError(404, NO_RESOURCE)


def not_allowed() -> ApiError:
    return ApiError(405, "the server does not allow this method on the requested resource")


def failure(e: Exception, info: RequestInfo | None = None) -> dict[str, Any]:
    """Return the Status object that tells *e*; *info* names the object in its details."""
    about = _about(info, e)
    if isinstance(e, ApiError):
        details = {k: v for k, v in {**about, **e.details}.items() if v}
        return status(e.code, e.reason, e.message, details)
    if isinstance(e, FieldErrors):
        causes = [c.cause() for c in e.fields]
        return status(422, "Invalid", e.message, {**about, **_invalid(e), "causes": causes})
    for kind, (code, reason) in CODES.items():
        if isinstance(e, kind):
            details = {**about, "hint": e.hint} if e.hint else about
            if isinstance(e, errors.Unavailable):
                details = {**details, "retryAfterSeconds": max(1, round(e.retry_after))}
            return status(code, reason, e.message, details)
    if isinstance(e, errors.MinipodError):
        return status(500, "InternalError", e.message, {"hint": e.hint} if e.hint else {})
    return status(500, "InternalError", f"Internal error occurred: {type(e).__name__}", {})


def _invalid(e: FieldErrors) -> dict[str, Any]:
    """The kind and name of the object that is invalid: FieldErrors says `Kind.group "name"` first."""
    match = re.match(r'(\w+)(?:\.\S+)? "([^"]*)"', e.message)
    return {"kind": match[1], "name": match[2]} if match else {}


def _about(info: RequestInfo | None, e: Exception) -> dict[str, Any]:
    if info is None or not info.is_resource:
        return {}
    name = info.name
    if not name and (quoted := re.match(r'\S+ "([^"]+)" ', str(e))):  # a new object's, in the words
        name = quoted[1]
    details = {"name": name, "group": info.group, "kind": info.resource}
    return {k: v for k, v in details.items() if v}


def status(code: int, reason: str, message: str, details: dict[str, Any]) -> dict[str, Any]:
    """Return a Status of failure."""
    return {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, **({"details": details} if details else {}), "code": code,
    }  # fmt: skip


def success(details: dict[str, Any]) -> dict[str, Any]:
    """Return the Status that answers a deletion."""
    return {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    }  # fmt: skip
