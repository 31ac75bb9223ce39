"""From a handler to what runs it: prepared once per target, so that an attempt only sends.

A *flight* (http, tcp, grpc on an address) runs in the prober's engine. What has to wait for something else than a socket
(a host given by name, a command in the container) is an ordinary coroutine of asyncio.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Coroutine
from functools import partial

from minipod.kubelet.probe import exec as exec_probe
from minipod.kubelet.probe import grpc, http, tcp
from minipod.kubelet.probe.exec import ExecRunner
from minipod.kubelet.probe.flight import Wait
from minipod.kubelet.probe.sockets import family_of, join_host_port
from minipod.kubelet.probe.targets import Attempt, Handler, Target
from minipod.kubelet.rules.probe import Outcome

Prepared = Callable[[], Coroutine[Wait, None, Attempt]]


def prepare(handler: Handler, time_limit: float) -> Prepared | None:
    """How to begin one flight; None for a handler that needs `ask`. *time_limit* in seconds."""
    if (get := handler.http_get) is not None and family_of(get.host):
        return partial(http.ask, http.request(get, get.host))
    if (socket := handler.tcp_socket) is not None and family_of(socket.host):
        return partial(tcp.ask, socket.host, socket.port)
    if (call := handler.grpc) is not None:
        payload = grpc.request_bytes(call.host, call.port, call.service, time_limit)
        return partial(grpc.ask, call.host, call.port, payload, time_limit)
    return None


async def ask(target: Target, runner: ExecRunner) -> Attempt:
    """One attempt of what is no flight."""
    handler = target.handler
    if handler.http_get is not None:
        return await http.probe(handler.http_get, target.timeout)
    if handler.tcp_socket is not None:
        return await tcp.probe(handler.tcp_socket, target.timeout)
    if handler.exec is not None:
        return await exec_probe.probe(handler.exec, target.container_id, runner, target.timeout)
    return Attempt(outcome=Outcome.ERROR, output=handler.error or "missing probe handler")


def describe(handler: Handler) -> str:
    """What is asked, as `kubectl describe` prints it."""
    if (get := handler.http_get) is not None:
        return f"http-get {http.request(get, '').url}"
    if (socket := handler.tcp_socket) is not None:
        return f"tcp-socket {join_host_port(socket.host, socket.port)}"
    if (call := handler.grpc) is not None:
        return f"grpc {join_host_port(call.host, call.port)} {call.service}".rstrip()
    if handler.exec is not None:
        return f"exec [{shlex.join(handler.exec.command)}]"
    return handler.error or "nothing"
