"""The rows of the table, one module each. See `benchmarks.row` for the shape."""

ORDER = (
    "container", "pod", "burst", "fleet", "exec", "cri", "streams", "memory", "start", "logs", "probes", "unpack", "pull", "get", "api",
)  # fmt: skip
