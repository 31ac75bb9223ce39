"""Validation of probes and lifecycle handlers, in Kubernetes' words (validation.go: validateProbe, validateHandler)."""

from __future__ import annotations

import re

from minipod.api.messages import (
    PORT_NAME,
    PORT_NAME_WORDS,
    PORT_WORDS,
    Errors,
    Object,
    at_least,
    choice,
    forbidden,
    in_range,
    invalid,
    required,
)

_HEADER = re.compile(r"[-A-Za-z0-9]+")
_HEADER_WORDS = (
    "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is"
    " '[-A-Za-z0-9]+')"
)
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_COUNTS = (
    "initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold".split()
)


def probe(probe: Object, path: str, kind: str) -> Errors:
    """*kind* is the container's field, like `livenessProbe`."""
    yield from handler(probe, path)
    for field in _COUNTS:
        yield from at_least(probe, field, path, 0)
    if kind != "readinessProbe" and (probe.get("successThreshold") or 1) != 1:
        yield invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")
    grace = "terminationGracePeriodSeconds"
    if probe.get(grace) is not None and kind == "readinessProbe":
        yield invalid(f"{path}.{grace}", probe[grace], "must not be set for readinessProbes")
    else:
        yield from at_least(probe, grace, path, 1)


def handler(action: Object, path: str) -> Errors:
    """Exactly one handler, with what it needs."""
    given = [h for h in _HANDLERS if action.get(h) is not None]
    if not given:
        yield required(path, "must specify a handler type")
    elif len(given) > 1:
        yield forbidden(path, "may not specify more than 1 handler type")
    if "exec" in given and not action["exec"].get("command"):
        yield required(f"{path}.exec.command")
    for kind in ("httpGet", "tcpSocket"):
        if kind in given:
            yield from _port(action[kind].get("port"), f"{path}.{kind}.port")
            yield from choice(action[kind], "scheme", f"{path}.{kind}", ("HTTP", "HTTPS"))
            for header in action[kind].get("httpHeaders") or []:
                if not _HEADER.fullmatch(header.get("name") or ""):
                    at = f"{path}.{kind}.httpHeaders"
                    yield invalid(at, header.get("name") or "", _HEADER_WORDS)
    if "grpc" in given:
        if action["grpc"].get("port") is None:
            yield required(f"{path}.grpc.port")
        yield from in_range(action["grpc"], "port", f"{path}.grpc", 1, 65535)


def _port(port: object, path: str) -> Errors:
    if port is None or port == "":
        yield required(path)
    elif isinstance(port, int) and not 1 <= port <= 65535:
        yield invalid(path, port, PORT_WORDS)
    elif isinstance(port, str) and (len(port) > 15 or not PORT_NAME.fullmatch(port)):
        yield invalid(path, port, PORT_NAME_WORDS)
