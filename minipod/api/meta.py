"""Small facts of every Kubernetes object: timestamps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def now(later: float = 0.0) -> str:
    """Return the time (plus *later* seconds) as metav1.Time is written: RFC 3339, UTC, whole seconds."""
    return (datetime.now(UTC) + timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%SZ")
