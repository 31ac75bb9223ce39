"""Our errors as gRPC codes, in one place (containerd's errdefs map the same way)."""

from __future__ import annotations

from typing import Final

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from minipod import errors

CODES: Final[dict[type[errors.MinipodError], Status]] = {
    errors.NotFound: Status.NOT_FOUND,
    errors.AlreadyExists: Status.ALREADY_EXISTS,
    errors.InvalidSpec: Status.INVALID_ARGUMENT,
    errors.FailedPrecondition: Status.FAILED_PRECONDITION,
    errors.Conflict: Status.ABORTED,
    errors.Unavailable: Status.UNAVAILABLE,
    errors.DeadlineExceeded: Status.DEADLINE_EXCEEDED,
    errors.Unauthorized: Status.UNAUTHENTICATED,
    errors.Forbidden: Status.PERMISSION_DENIED,
}
IMAGE_CODES: Final = {
    "InvalidImageName": Status.INVALID_ARGUMENT,
    "ErrImageNeverPull": Status.NOT_FOUND,
}


def to_grpc(e: errors.MinipodError) -> GRPCError:
    """Return the answer that tells *e*. What is in no table is UNKNOWN, as a kubelet expects of a failed pull or set-up."""
    if isinstance(e, errors.ImageError):
        return GRPCError(IMAGE_CODES.get(e.reason, Status.UNKNOWN), e.message)
    code = next((code for kind, code in CODES.items() if isinstance(e, kind)), Status.UNKNOWN)
    return GRPCError(code, f"{e.message}; {e.hint}" if e.hint else e.message)
