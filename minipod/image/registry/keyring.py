"""Credentials by image name: Docker's config.json, dockercfg, and credential helpers.

Which entry fits an image are the kubelet's rules (K8S pkg/credentialprovider/keyring.go): a key is a
host with globs in its parts, a port, and a path prefix; longer keys are tried first, and
`index.docker.io` is Docker Hub. A host without a glob is what `docker login` writes, so the same rules
serve the command line.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

from minipod.errors import ImageError, InvalidSpec
from minipod.image.reference import Reference
from minipod.spec.registry import AuthConfig

HUB = "index.docker.io"
HELPER_TIMEOUT = 30.0  # seconds; some ask a person
TOKEN_USER = "<token>"  # a helper's user name for an identity token (docker-credential-helpers)  # noqa: S105


class Keyring:
    """Entries in the order they were added; `lookup` returns those that fit."""

    def __init__(self) -> None:
        self._entries: dict[str, list[AuthConfig]] = {}

    def add(self, key: str, auth: AuthConfig) -> None:
        """Add the credentials of one key of `auths`."""
        known = self._entries.setdefault(normalise(key), [])
        if auth not in known:
            known.append(auth)

    def lookup(self, image: Reference) -> list[AuthConfig]:
        """Return all that fit, the most specific first."""
        found = [
            auth
            for key in sorted(self._entries, reverse=True)
            if matches(key, image.name)
            for auth in self._entries[key]
        ]
        if not found and image.domain == "docker.io":
            found = list(self._entries.get(HUB, ()))
        return found


def normalise(key: str) -> str:
    """Return host and path of a key of `auths`: no scheme, no API version."""
    # Not urlsplit: globs have brackets, which it takes for an IPv6 address.
    host, slash, path = key.rpartition("://")[2].partition("/")
    path = slash + path
    if path.startswith(("/v1/", "/v2/")) or path in ("/v1", "/v2"):
        path = path[3:]
    return host + (path if path not in ("", "/") else "")


def matches(key: str, image: str) -> bool:
    """Tell whether a normalised key fits `host[:port]/path` (urlsMatch)."""
    key_host, _, key_path = key.partition("/")
    host, _, path = image.partition("/")
    (key_name, key_port), (name, port) = _split_port(key_host), _split_port(host)
    key_parts, parts = key_name.split("."), name.split(".")
    return (
        key_port == port
        and len(key_parts) == len(parts)
        and path.startswith(key_path)
        and all(_glob(g, p) for g, p in zip(key_parts, parts, strict=True))
    )


def _split_port(host: str) -> tuple[str, str]:
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and port.isdigit() else (host, "")


def _glob(pattern: str, text: str) -> bool:
    return fnmatch.fnmatchcase(text, pattern.replace("[^", "[!"))


# -- Docker's files


def add_docker_config(keyring: Keyring, content: bytes, where: str) -> None:
    """Add the `auths` of a config.json (a Secret's .dockerconfigjson). Raises InvalidSpec."""
    _add_auths(keyring, _object(content, where).get("auths") or {}, f"{where}: auths")


def add_docker_cfg(keyring: Keyring, content: bytes, where: str) -> None:
    """Add a .dockercfg, the older form: `auths` without its frame. Raises InvalidSpec."""
    _add_auths(keyring, _object(content, where), where)


def _object(content: bytes, where: str) -> dict[str, Any]:
    try:
        raw = json.loads(content)
    except ValueError as e:
        raise InvalidSpec(f"not valid JSON: {_place(e)}", path=where) from e
    if not isinstance(raw, dict):
        raise InvalidSpec("not an object", path=where)
    return raw


def _place(error: ValueError) -> str:
    """Say where it is broken; the document itself holds passwords."""
    line, column = getattr(error, "lineno", 0), getattr(error, "colno", 0)
    return f"line {line} column {column}" if line else "not UTF-8"


def _add_auths(keyring: Keyring, auths: Any, where: str) -> None:
    if not isinstance(auths, dict):
        raise InvalidSpec("not an object", path=where)
    for key, raw in auths.items():
        if not isinstance(raw, dict):
            raise InvalidSpec("not an object", path=f"{where}.{key}")
        auth = _auth(raw, f"{where}.{key}")
        if auth != AuthConfig():
            keyring.add(key, auth)


def _auth(raw: Mapping[str, Any], where: str) -> AuthConfig:
    username, password = str(raw.get("username") or ""), str(raw.get("password") or "")
    if encoded := raw.get("auth"):
        try:
            plain = base64.b64decode(str(encoded).encode() + b"==").decode()
        except (binascii.Error, UnicodeError) as e:
            raise InvalidSpec("auth is not valid base64", path=where) from e
        username, colon, password = plain.partition(":")
        if not colon:
            raise InvalidSpec("auth is not base64 of username:password", path=where)
        password = password.rstrip("\0")
    return AuthConfig(
        username=username,
        password=password,
        identity_token=str(raw.get("identitytoken") or ""),
        registry_token=str(raw.get("registrytoken") or ""),
    )


def of_user(image: Reference, environment: Mapping[str, str]) -> list[AuthConfig]:
    """Return what a person's own configuration has for *image*: helpers first. Raises InvalidSpec, ImageError.

    $DOCKER_CONFIG/config.json, else ~/.docker/config.json; then podman's ${XDG_RUNTIME_DIR}/containers/auth.json.
    """
    keyring = Keyring()
    home = environment.get("HOME", "/root")
    docker = environment.get("DOCKER_CONFIG") or f"{home}/.docker"
    places = [f"{docker}/config.json"]
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        places.append(f"{runtime}/containers/auth.json")
    helped: list[AuthConfig] = []
    for path in places:
        try:
            with open(path, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            continue
        except OSError as e:
            raise InvalidSpec((e.strerror or "").lower(), path=path) from e
        helped += _from_helpers(image, _object(content, path), path)
        add_docker_config(keyring, content, path)
    return [*helped, *keyring.lookup(image)]


def _from_helpers(image: Reference, raw: Mapping[str, Any], path: str) -> Iterable[AuthConfig]:
    """Ask the registry's own helper (credHelpers), else the common one (credsStore)."""
    own = raw.get("credHelpers") or {}
    server = "https://index.docker.io/v1/" if image.domain == "docker.io" else image.domain
    helper = own.get(image.domain) or own.get(server) or raw.get("credsStore")
    if not helper:
        return []
    if not isinstance(helper, str) or os.sep in helper:
        raise InvalidSpec(f"{helper!r} is not the name of a credential helper", path=path)
    answer = _ask_helper(f"docker-credential-{helper}", server)
    if not answer:
        return []
    username, secret = str(answer.get("Username", "")), str(answer.get("Secret", ""))
    if username == TOKEN_USER:
        return [AuthConfig(identity_token=secret)]
    return [AuthConfig(username=username, password=secret)]


def _ask_helper(program: str, server: str) -> dict[str, Any]:
    """Run `PROGRAM get`; {} when it knows no credentials. Raises ImageError."""
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=HELPER_TIMEOUT,
            check=False,
        )
        if b"credentials not found" in done.stdout + done.stderr:  # the protocol's own words
            return {}
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()[:200]
            raise ImageError(f"{program} failed: {said}", reason="ErrImagePull")
        return _object(done.stdout, program)
    except FileNotFoundError as e:
        raise ImageError(
            f"credential helper {program} not found",
            reason="ErrImagePull",
            hint="install it, or remove it from ~/.docker/config.json",
        ) from e
    except subprocess.TimeoutExpired as e:
        raise ImageError(
            f"{program} gave no answer within {HELPER_TIMEOUT:g} s", reason="ErrImagePull"
        ) from e
