"""postStart and preStop handlers: exec, httpGet, tcpSocket, sleep (K8S pkg/kubelet/lifecycle/handlers.go).

An HTTP hook has succeeded when somebody answered, whatever the status; one that asks for HTTPS and finds no TLS
there is tried as HTTP, as in 1.25 and newer. The kubelet never ran tcpSocket hooks; here an established connection
is success.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from minipod.errors import FailedPrecondition
from minipod.kubelet.probe import http
from minipod.kubelet.probe import tcp as tcp_probe
from minipod.kubelet.probe.targets import Attempt, HttpGet, TcpSocket
from minipod.kubelet.rules.probe import Outcome
from minipod.spec.ids import ContainerId

if TYPE_CHECKING:
    from minipod.kubelet.rules.pods import Container, Raw
    from minipod.runtime.service import RuntimeService

_CONNECT_LIMIT = 30.0  # seconds
_HTTP_LIMIT = 30.0  # seconds; the original's client has none, and hangs


async def run(
    handler: Raw, container: Container, container_id: str, pod_ip: str, runtime: RuntimeService
) -> None:
    """Run one handler to its end; FailedPrecondition with the kubelet's words when it failed."""
    if command := (handler.get("exec") or {}).get("command"):
        result = await runtime.exec_sync(ContainerId(container_id), tuple(command), 0)
        if result.exit_code:
            output = (result.stdout + result.stderr).decode("utf-8", "replace")
            raise FailedPrecondition(
                f"command '{' '.join(command)}' exited with {result.exit_code}: {output}"
            )
    elif "sleep" in handler:
        await asyncio.sleep(handler["sleep"].get("seconds", 0))
    elif get := handler.get("httpGet"):
        await _http(get, container, pod_ip)
    elif tcp := handler.get("tcpSocket"):
        port = resolve_port(tcp["port"], container)
        attempt = await tcp_probe.probe(
            TcpSocket(host=tcp.get("host") or pod_ip, port=port), _CONNECT_LIMIT
        )
        if attempt.outcome is Outcome.FAILURE:
            raise FailedPrecondition(attempt.output)
    else:
        raise FailedPrecondition(f"invalid handler: {handler}")


async def _http(get: Raw, container: Container, pod_ip: str) -> None:
    # The status code is not looked at: only a transport error fails the hook.
    target = HttpGet(
        host=get.get("host") or pod_ip,
        port=resolve_port(get.get("port", 80), container),
        path=get.get("path") or "/",
        scheme=get.get("scheme") or "HTTP",
        headers=tuple((h["name"], h["value"]) for h in get.get("httpHeaders") or ()),
    )
    attempt = await http.probe(target, _HTTP_LIMIT)
    if target.scheme == "HTTPS" and _unanswered(attempt):
        plain = await http.probe(replace(target, scheme="HTTP"), _HTTP_LIMIT)
        attempt = attempt if _unanswered(plain) else plain
    if _unanswered(attempt):
        raise FailedPrecondition(attempt.output)


def _unanswered(attempt: Attempt) -> bool:
    """A failure of the transport (Go's `Get "url": why`), not a bad status."""
    return attempt.outcome is Outcome.FAILURE and not attempt.output.startswith("HTTP ")


def resolve_port(port: int | str, container: Container) -> int:
    """A number, or the name of one of the container's ports. Raises FailedPrecondition."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for entry in container.ports:
        if entry.get("name") == port:
            return int(entry["containerPort"])
    raise FailedPrecondition(f"couldn't find port: {port} in container {container.name}")
