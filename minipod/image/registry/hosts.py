"""Where the images of a registry come from: containerd's hosts.toml, its keys and its meanings.

    <directory>/<registry>/hosts.toml      <registry> as in image names: docker.io, reg.example:5000
    <directory>/_default/hosts.toml        for every other one

    server = "https://registry-1.docker.io"             asked last; default: https://<registry>
    [host."https://mirror.example"]                     asked first, in the order of the file
      capabilities = ["pull", "resolve", "push"]        default: all
      ca = "ca.pem"                                     or a list; relative to the file
      client = ["client.pem", "client.key"]
      skip_verify = true
      override_path = true                              the URL's path already is the API's root
      [host."https://mirror.example".header]
        authorization = "Basic ..."
    [host."http://plain.example:5000"]                  http is how a registry is named insecure
    [host."oci:/srv/images"]                            ours: OCI layouts below a directory (see layout)

The same keys beside `server` are for the server. Without a file: https, and for a registry on the loopback
address http too, as containerd has it. Source: containerd/docs/hosts.md. Reads files; sends nothing.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from minipod.errors import ImageError

DEFAULT_DIRECTORY = "/etc/minipod/registries"
ALL = frozenset({"pull", "resolve", "push"})
_SERVERS = {"docker.io": "registry-1.docker.io"}
_ENTRY_KEYS = {
    "capabilities", "ca", "client", "skip_verify", "override_path", "header", "dial_timeout",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How to check a server's certificate, and what to show it; empty: the system's authorities."""

    authorities: tuple[str, ...] = ()  # PEM files, beside the system's
    client: tuple[str, ...] = ()  # PEM file, or certificate and key
    skip_verify: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One place to ask. *base* is a URL without trailing slash, or `oci:` and a directory."""

    base: str  # "https://mirror.example/v2"
    is_server: bool = False  # the registry itself: only it gets the credentials
    capabilities: frozenset[str] = ALL
    tls: Tls = Tls()
    headers: dict[str, str] = field(default_factory=dict, repr=False)  # may hold a password
    namespace: str = ""  # of a mirror: the registry that it mirrors, sent as ?ns=

    @property
    def layout(self) -> str:
        """The directory of OCI layouts, "" for a real registry."""
        return self.base.removeprefix("oci:") if self.base.startswith("oci:") else ""


def endpoints(directory: str, registry: str, capability: str) -> tuple[Endpoint, ...]:
    """Return where to ask for images of *registry*, in order. Raises ImageError for a wrong file."""
    found = _from_file(directory, registry)
    return tuple(e for e in found if capability in e.capabilities)


def _from_file(directory: str, registry: str) -> tuple[Endpoint, ...]:
    host, colon, port = registry.rpartition(":")
    names = [registry, f"{host}_{port}_" if colon else registry, "_default"]
    for name in names:
        path = os.path.join(directory, name, "hosts.toml")
        try:
            with open(path, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            continue
        except OSError as e:
            raise _wrong(path, (e.strerror or "").lower()) from e
        return _parse(content, path, registry)
    return _servers(registry)


def _servers(registry: str) -> tuple[Endpoint, ...]:
    """Return the registry itself; on the loopback address without TLS too, and its certificate is nobody's."""
    server = _SERVERS.get(registry, registry)
    tls = Endpoint(base=f"https://{server}/v2", is_server=True)
    if not is_loopback(server):
        return (tls,)
    unverified = Endpoint(base=tls.base, is_server=True, tls=Tls(skip_verify=True))
    return (Endpoint(base=f"http://{server}/v2", is_server=True), unverified)


def is_loopback(host: str) -> bool:
    """Tell whether *host*, with or without a port, is this machine."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _parse(content: bytes, path: str, registry: str) -> tuple[Endpoint, ...]:
    import tomllib  # only when there is a file

    try:
        raw = tomllib.loads(content.decode())
    except ValueError as e:
        raise _wrong(path, str(e)) from e
    mirrors, server = raw.pop("host", {}), raw.pop("server", "")
    if not isinstance(mirrors, dict) or not isinstance(server, str):
        raise _wrong(path, "server must be a string and host a table")
    found = [_endpoint(path, url, entry, registry) for url, entry in mirrors.items()]
    if server or raw:
        url = server or f"https://{_SERVERS.get(registry, registry)}"
        return (*found, _endpoint(path, url, raw, registry, is_server=True))
    return (*found, *_servers(registry))


def _endpoint(path: str, url: str, raw: Any, registry: str, *, is_server: bool = False) -> Endpoint:
    where = f'host."{url}"' if not is_server else "server"
    if not isinstance(raw, dict):
        raise _wrong(path, f"{where} is not a table")
    if unknown := sorted(raw.keys() - _ENTRY_KEYS):
        raise _wrong(path, f"{where}: unknown key {unknown[0]!r}")
    base = _base(path, where, url, override=raw.get("override_path") is True)
    wanted = frozenset(_strings(path, f"{where}.capabilities", raw.get("capabilities"))) or ALL
    if wanted - ALL:
        raise _wrong(path, f"{where}: unknown capability {min(wanted - ALL)!r}")
    own = (urlsplit(base).netloc == _SERVERS.get(registry, registry)) or is_server
    return Endpoint(
        base=base,
        is_server=own,
        capabilities=wanted & {"pull", "resolve"} if base.startswith("oci:") else wanted,
        tls=_tls(path, where, raw),
        headers=_headers(path, where, raw.get("header", {})),
        namespace="" if own else registry,
    )


def _base(path: str, where: str, url: str, *, override: bool) -> str:
    if url.startswith("oci:"):
        directory = url.removeprefix("oci:")
        if not os.path.isabs(directory):
            raise _wrong(path, f"{where}: the directory must be absolute")
        return f"oci:{os.path.normpath(directory)}"
    parts = urlsplit(url if "://" in url else f"https://{url}")
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query:
        raise _wrong(path, f"{where}: not an http, https or oci URL")
    base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    return base if override or base.endswith("/v2") else f"{base}/v2"


def _tls(path: str, where: str, raw: dict[str, Any]) -> Tls:
    here = os.path.dirname(path)

    def files(key: str) -> tuple[str, ...]:
        value = raw.get(key)
        if key == "client" and isinstance(value, list) and value and isinstance(value[0], list):
            value = value[0]  # containerd's list of pairs: the first is used
        return tuple(os.path.join(here, f) for f in _strings(path, f"{where}.{key}", value))

    skip = raw.get("skip_verify", False)
    if not isinstance(skip, bool):
        raise _wrong(path, f"{where}: skip_verify must be true or false")
    return Tls(authorities=files("ca"), client=files("client")[:2], skip_verify=skip)


def _headers(path: str, where: str, raw: Any) -> dict[str, str]:
    if not isinstance(raw, dict):
        raise _wrong(path, f"{where}: header is not a table")
    return {
        name: ", ".join(_strings(path, f"{where}.header.{name}", value))
        for name, value in raw.items()
    }


def _strings(path: str, where: str, value: Any) -> tuple[str, ...]:
    listed = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(word, str) for word in listed):
        raise _wrong(path, f"{where} must be a string or a list of strings")
    return tuple(listed)


def _wrong(path: str, why: str) -> ImageError:
    return ImageError(f"{path}: {why}", reason="ErrImagePull")
