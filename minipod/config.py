"""The settings of a node: defaults, one TOML file, environment, flags; each value with where it came from.

/etc/minipod/minipod.toml    node_name = "lab"      (any field of Instance but the name)
                             [instance.two]         the same for the node called "two", which takes nothing from above
                             subnet4 = "10.99.0.0/16"
MINIPOD_INSTANCE, MINIPOD_CONFIG

docs/settings.md lists the settings.
"""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from typing import Any

from minipod.errors import InvalidSpec, NotFound
from minipod.spec.endpoint import SETTINGS
from minipod.spec.instance import Instance

PATHS = ("run_root", "state_root", "log_root", "registries", "static_pods")
LEAST = {  # of numbers that have no other bounds
    "setup_deadline": 0.1, "log_max_bytes": 0, "log_max_files": 1, "max_pods": 0,
    "eviction_memory": 0, "eviction_interval": 0.01, "eviction_transition": 0,
    "image_layer_max": 1, "image_layer_entries": 1, "image_gc_min_age": 0, "image_gc_max_age": 0,
}  # fmt: skip
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
WORDS = {
    str: "a text", int: "a whole number", float: "a number", bool: "true or false", tuple: "a list of texts",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The effective Instance; *sources* says for each field where its value is from."""

    instance: Instance
    sources: dict[str, str]


def load(path: str | None = None, *, name: str | None = None) -> Config:
    """Read the settings. Raises InvalidSpec with file and key, NotFound for a named file that is missing."""
    fields = {f.name: f.default for f in dataclasses.fields(Instance)}
    sources = dict.fromkeys(fields, "default")
    path = path or os.environ.get("MINIPOD_CONFIG")
    if name is None and (name := os.environ.get("MINIPOD_INSTANCE")):
        sources["name"] = "MINIPOD_INSTANCE"
    elif name is not None:
        sources["name"] = "--instance"
    values: dict[str, Any] = {}
    if name is not None:
        values["name"] = name
        if name != "minipod":
            values |= (derived := _derived(name))
            sources |= dict.fromkeys(derived, "derived from the name")
    for where, found in _from_file(path, name or "minipod"):
        for key, value in found.items():
            values[key] = _checked(key, value, fields, where)
            sources[key] = where
    try:
        instance = Instance(**values)
        _check(instance)
    except InvalidSpec as e:
        where = sources.get(e.path, "")
        if not where.startswith("/"):
            raise
        raise InvalidSpec(e.detail, path=f"{where}: {e.path}", hint=e.hint) from e
    return Config(instance=instance, sources=sources)


def _check(instance: Instance) -> None:
    """Find what a node would fail at later, or never tell. Raises InvalidSpec; what `Instance` checks itself is left out."""
    for key in PATHS:
        if not (path := getattr(instance, key)).startswith("/") and (path or key != "static_pods"):
            raise InvalidSpec(f"{path!r} is not an absolute path", path=key)
    for key, least in LEAST.items():
        if (number := getattr(instance, key)) < least:
            raise InvalidSpec(f"{number!r} is less than {least}", path=key)
    for key in ("node_name", "cluster_domain"):
        if (name := getattr(instance, key)) and not NAME.fullmatch(name):
            raise InvalidSpec(f"{name!r} is not a DNS name in lower case", path=key)
    for key in ("cluster_dns", "api_addresses"):
        _check_addresses(getattr(instance, key), key)
    for key in ("reserved_cpu", "reserved_memory"):
        _check_quantity(getattr(instance, key), key)


def _check_addresses(addresses: tuple[str, ...], key: str) -> None:
    for address in addresses:
        from ipaddress import ip_address  # 5 ms, which few settings need

        try:
            ip_address(address)
        except ValueError as e:
            raise InvalidSpec(f"{address!r} is not an IP address", path=key) from e


def _check_quantity(amount: str, key: str) -> None:
    if amount == "0":
        return
    from minipod.api import quantity  # only where something is reserved

    try:
        if quantity.parse(amount) >= 0:
            return
    except InvalidSpec:
        pass
    raise InvalidSpec(f"{amount!r} is not a quantity", path=key, hint='like "500m" or "1Gi"')


def _checked(key: str, value: Any, fields: dict[str, Any], where: str) -> Any:
    """Return the value as `Instance` takes it. Raises InvalidSpec for an unknown key and a value of another type."""
    if key == "name":
        hint = "it is chosen by --instance NAME; the section [instance.NAME] is that node's"
        raise InvalidSpec(f"unknown setting {key!r}", path=where, hint=hint)
    if key not in fields:
        import difflib  # only for a typing error

        known = sorted({*fields} - {"name"})
        near = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise InvalidSpec(f"unknown setting {key!r}", path=where, hint=hint)
    kind = type(fields[key])
    if kind is tuple and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise InvalidSpec(f"{value!r} is not {WORDS[kind]}", path=f"{where}: {key}")
    return value


def _derived(name: str) -> dict[str, Any]:
    """Return subnets and ids for a node of another name, so that two live side by side without settings."""
    import zlib

    number = zlib.crc32(name.encode())
    place = number % (160 * 16)
    return {
        "subnet4": f"10.{89 + place // 16}.{place % 16 * 16}.0/20",
        "subnet6": f"fd00:6d70:{0x1000 + place:x}::/64",
        "userns_first": 0x7400_0000 + number % 11 * 0x100_0000,
        "userns_pods": 256,
    }


def _from_file(path: str | None, name: str) -> list[tuple[str, dict[str, Any]]]:
    where = path or SETTINGS
    try:
        with open(where, "rb") as f:
            content = f.read()
    except FileNotFoundError:
        if path is not None:
            raise NotFound(f"no settings file {path}") from None
        return []
    import tomllib  # only when there is a file

    try:
        parsed = tomllib.loads(content.decode())
    except tomllib.TOMLDecodeError as e:
        raise InvalidSpec(str(e), path=where) from e
    instances = parsed.pop("instance", {})
    found = [(where, parsed)] if name == "minipod" else []
    if name in instances:
        found.append((f"{where} [instance.{name}]", instances[name]))
    return found
