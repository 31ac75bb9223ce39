"""The rows of the table, one module each. See `benchmarks.row` for the shape."""

ORDER = (
    "container",
    "pod",
    "burst",
    "exec",
    "fleet",
    "memory",
    "start",
    "logs",
    "probes",
    "unpack",
    "get",
    "api",
)
