"""Every exception that minipod raises, named by what the caller can do about it.

`linux/` alone raises plain OSError. The conversion to a Kubernetes Status, to a gRPC code or to an
exit code happens once, at each face (`apiserver/status.py`, `cri/errors.py`, `cli/__init__.py`).
A message is lower case, without a period, and names object and value; advice goes into `hint`.
"""

from __future__ import annotations


class MinipodError(Exception):
    """The root: *message* says what happened to which object, *hint* what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidSpec(MinipodError):
    """A value in a manifest or spec is wrong; *path* is its place, like `spec.containers[0].name`."""

    def __init__(self, message: str, *, path: str = "", hint: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message, hint=hint)
        self.path = path
        self.detail = message


class NotFound(MinipodError):
    """The named object does not exist."""


class AlreadyExists(MinipodError):
    """An object of that name exists."""


class Unauthorized(MinipodError):
    """Nobody knows who is asking."""


class Forbidden(MinipodError):
    """Who is asking may not do this."""


class FailedPrecondition(MinipodError):
    """The object is not in a state that allows this (exec in a container that is not running)."""


class Conflict(MinipodError):
    """The object changed since the caller read it; read again and retry."""


class Gone(MinipodError):
    """The asked-for resourceVersion is older than what is kept; list again."""


class Unavailable(MinipodError):
    """Not now: a part that this needs is not there; *retry_after* is in seconds."""

    def __init__(self, message: str, *, retry_after: float = 1.0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class DeadlineExceeded(MinipodError):
    """It took longer than allowed, and was ended."""


class ImageError(MinipodError):
    """An image can't be used: *reason* is the kubelet's word for it (ErrImagePull, InvalidImageName...)."""

    def __init__(self, message: str, *, reason: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class SetupFailed(MinipodError):
    """A step between fork and execve failed: *step* is its description, *errno* the kernel's answer.

    *subject* is the path or name the step worked on; *cause* the manifest path that asked for it.
    """

    def __init__(
        self, step: str, *, errno: int = 0, subject: str = "", cause: str = "", detail: str = ""
    ) -> None:
        import os  # only on the error path

        what = f"{step}: {subject}" if subject and subject not in step else step
        why = detail or (os.strerror(errno).lower() if errno else "failed")
        super().__init__(f"{what}: {why}" + (f" (from {cause})" if cause else ""))
        self.step = step
        self.errno = errno
        self.subject = subject
        self.cause = cause
        self.detail = detail


class Internal(MinipodError):
    """A state that must not be: a defect of minipod itself."""
