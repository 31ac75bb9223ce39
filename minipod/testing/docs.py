"""The pages of docs/ that are generated from the code: pod fields, settings, seccomp, cgroups.

`python -m minipod.testing.docs` writes them.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import os
import tokenize

from minipod.api.schema import types
from minipod.cgroups.resources import v1_settings, v2_settings
from minipod.linux.seccomp import UNKNOWN, decisions
from minipod.linux.seccomp_profile import (
    ALWAYS,
    NAMESPACE_FLAGS,
    PERSONALITIES,
    REFUSED_FAMILIES,
    WITH,
)
from minipod.linux.syscalls import table
from minipod.spec.container import Resources
from minipod.spec.instance import Instance

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NOTE = "Generated from the code by `scripts/docs`; a test checks that it is current.\n"


def pages() -> dict[str, str]:
    """Return file name -> content."""
    return {
        "pod-fields.md": pod_fields(),
        "settings.md": settings_page(),
        "seccomp.md": seccomp_page(),
        "cgroups.md": cgroups_page(),
    }


def pod_fields() -> str:
    """Return the table of every field of a Pod."""
    lines = ["# Fields of a Pod", "", NOTE, "| object | field | |", "|---|---|---|"]
    for name, kind in types().items():
        limits = {field: f": {why}" for field, why in kind.limits.items()}
        lines += [
            f"| {name} | {field} | supported{limits.get(field, '')} |" for field in kind.fields
        ]
        lines += [
            f"| {name} | {field} | without meaning here, accepted with a warning: {why} |"
            for field, why in sorted(kind.meaningless.items())
        ]
        lines += [
            f"| {name} | {field} | refused: {why} |" for field, why in sorted(kind.refused.items())
        ]
        lines += [
            f"| {name} | {field} | not yet: refused (a warning with --lenient) |"
            for field in sorted(kind.later)
        ]
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Return the table of every setting of a node: what is said of it beside its field in `Instance`."""
    lines = [
        "# Settings of a node", "", NOTE,
        "In `/etc/minipod/minipod.toml`, or the file that `--config` or `MINIPOD_CONFIG` names. They hold from the next `minipod up` on;",
        "`minipod config` prints each effective value, and where it is from.", "",
        "    node_name = \"lab\"                  # of the node called minipod",
        "    api_addresses = [\"192.0.2.10\"]", "",
        "    [instance.two]                     # of minipod --instance two (or MINIPOD_INSTANCE=two), which takes nothing from above",
        "    max_pods = 20", "",
        "A node of another name than minipod has subnets and user ids of its own, which derive from its name, unless they are set.", "",
        "| setting | default | |", "|---|---|---|",
    ]  # fmt: skip
    source = inspect.getsource(Instance)
    comments = {  # by the line of the field that it is beside, or above
        token.start[0] + (not token.line[: token.start[1]].strip()): token.string.removeprefix("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    (instance,) = ast.parse(source).body
    assert isinstance(instance, ast.ClassDef)
    for field in instance.body:
        if isinstance(field, ast.AnnAssign) and field.value and isinstance(field.target, ast.Name):
            default = getattr(Instance(), field.target.id)
            shown = json.dumps(list(default) if isinstance(default, tuple) else default)
            lines.append(f"| {field.target.id} | `{shown}` | {comments[field.lineno]} |")
    return "\n".join(lines) + "\n"


def seccomp_page() -> str:
    """Return the default filter in words."""
    lines = [
        "# The default seccomp filter", "", NOTE,
        "Everything that is not listed answers EPERM; `clone3`, and calls newer than our table of numbers, answer ENOSYS,",
        "so that libc falls back to older ones.", "",
        "## Allowed", "", " ".join(f"`{n}`" for n in sorted(set(ALWAYS))), "",
        "## Allowed with a capability", "", "| capability | calls |", "|---|---|",
    ]  # fmt: skip
    lines += [
        f"| CAP_{c} | {' '.join(f'`{n}`' for n in names)} |" for c, names in sorted(WITH.items())
    ]
    lines += [
        "", "## Allowed by arguments", "", "| call | rule |", "|---|---|",
        f"| `clone` | without the namespace flags {NAMESPACE_FLAGS:#x} |",
        f"| `personality` | only {', '.join(hex(p) for p in PERSONALITIES)} |",
        f"| `socket` | not the families {', '.join(str(f) for f in REFUSED_FAMILIES)} (AF_ALG, AF_VSOCK) |",
    ]  # fmt: skip
    return "\n".join(lines) + "\n" + seccomp_comparison()


OTHER_PROFILE = "/usr/share/containers/seccomp.json"  # Debian: golang-github-containers-common


def seccomp_comparison() -> str:
    """Return our x86_64 calls beside those of the profile that podman, buildah and CRI-O share, both without capabilities.

    Raises FileNotFoundError where Debian's package is missing (scripts/packages-dev).
    """
    with open(OTHER_PROFILE, encoding="utf-8") as f:
        rules = json.load(f)["syscalls"]
    theirs = set()
    for rule in rules:
        wanted = rule.get("includes") or {}
        fits = "amd64" in wanted["arches"] if "arches" in wanted else not wanted
        if rule["action"] == "SCMP_ACT_ALLOW" and fits:
            theirs |= set(rule["names"])
    known = table("x86_64").keys()
    ours = {n for n, body in decisions(frozenset()).items() if body != UNKNOWN} & known
    theirs = {"socket", *theirs} & known  # theirs depends on AUDIT_WRITE for audit sockets only
    rows = [
        ("both", ours & theirs), ("minipod only", ours - theirs), ("containers-common only", theirs - ours),
    ]  # fmt: skip
    lines = [
        "", "## Beside the profile of other runtimes", "",
        "The profile of Debian's containers-common 0.50 (podman, buildah, CRI-O), x86_64, a container without capabilities.",
        "What only they allow makes namespaces, mounts, keys or memory policies, which we allow with the capability; what only we",
        "allow is newer than their profile, or harmless (`modify_ldt`, `vmsplice`: Docker's and containerd's allow them, too).", "",
        "| allowed by | calls | |", "|---|---|---|",
    ]  # fmt: skip
    for who, names in rows:
        listed = "" if who == "both" else " ".join(f"`{n}`" for n in sorted(names))
        lines.append(f"| {who} | {len(names)} | {listed} |")
    return "\n".join(lines) + "\n"


def cgroups_page() -> str:
    """Return what differs between the versions: the same limits as files."""
    example = Resources(
        cpu_shares=512, cpu_quota=50000, cpu_period=100000, memory_limit=64 << 20, pids_limit=100,
        cpuset_cpus="0", cpuset_mems="0", hugepage_limits={"2MB": 0}, oom_group=True,
    )  # fmt: skip
    lines = [
        "# cgroup v1, hybrid and v2",
        "",
        NOTE,
        "The same limits (cpu 500m, memory 64Mi, 100 processes), as files:",
        "",
    ]
    for title, settings in (
        ("v1, and the v1 trees of hybrid", v1_settings(example)),
        ("v2", v2_settings(example)),
    ):
        lines += [f"## {title}", "", "| controller | file | value |", "|---|---|---|"]
        lines += [f"| {s.controller} | {s.file} | {s.value} |" for s in settings]
        lines.append("")
    return "\n".join(lines) + "\n".join(DIFFERENCES)


DIFFERENCES = """
## What else differs

| | v1 | hybrid | v2 |
|---|---|---|---|
| kill everything | a loop over cgroup.procs | cgroup.kill | cgroup.kill |
| empty again | a short wait | "populated 0" in cgroup.events | "populated 0" in cgroup.events |
| devices | devices.allow, devices.deny | devices.allow, devices.deny | BPF program on the cgroup |
| OOM kills | memory.oom_control | memory.oom_control | memory.events |
| freeze | freezer.state | freezer.state | cgroup.freeze |
| new cpuset | copied from the parent | copied from the parent | inherits |
| the node's tree begins at | the root | the root | a scope that systemd delegates, else the root |
| controllers below | each tree has its own | each tree has its own | cgroup.subtree_control, top down |
""".splitlines()


def main() -> None:
    """Write the pages."""
    for name, content in pages().items():
        with open(f"{HERE}/docs/{name}", "w", encoding="utf-8") as f:
            f.write(content)


if __name__ == "__main__":
    main()
