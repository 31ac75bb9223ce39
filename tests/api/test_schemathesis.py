"""schemathesis against our own OpenAPI: cases along the document and around it, the same ones each time; every stored kind, and
its watches.

Excluded: parts of objects (status, scale, exec...); test_apiserver_fuzz_http has every operation.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator

import hypothesis
import pytest
import schemathesis
from aiohttp import web

from minipod.apiserver import kinds
from tests.apiserver import Server

STORED = [r for r in kinds.RESOURCES if r.stored]
PATHS = rf"/({'|'.join({r.plural for r in STORED})})(/\{{name\}})?$"
DOCUMENTS = sorted({f"apis/{r.api_version}" if r.group else "api/v1" for r in STORED})
EXAMPLES = 3
WATCHES = 2  # examples of a watch: one that is right lasts a second
SLOW = "Pod"  # pods and their templates: a case takes a second to be made up, for what a pod can have in it


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The address of a server in a thread of its own: schemathesis waits for its answers."""
    started, address, ended = threading.Event(), [""], asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with Server(tmp_path_factory.mktemp("api")) as server:
            site = web.TCPSite(server._runner, "127.0.0.1", 0)
            await site.start()
            address[0] = site.name
            started.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    started.wait()
    yield address[0]
    loops[0].call_soon_threadsafe(ended.set)
    thread.join()


def operations(url: str, document: str) -> Iterator[schemathesis.schemas.APIOperation]:
    schema = schemathesis.openapi.from_url(f"{url}/openapi/v3/{document}").include(path_regex=PATHS)
    for found in schema.get_all_operations():
        print(found.ok().label)
        yield found.ok()


def try_cases(
    operation: schemathesis.schemas.APIOperation,
    count: int,
    change: Callable[[schemathesis.Case], None],
) -> None:
    """Make up cases, *change* them, send them; every answer is one that a client can read."""

    @hypothesis.settings(max_examples=count, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck))  # fmt: skip
    @hypothesis.given(case=operation.as_strategy())
    def answered(case: schemathesis.Case) -> None:
        change(case)
        if "namespace" in case.path_parameters:
            case.path_parameters["namespace"] = "default"
        answer = case.call(timeout=20)
        assert answer.status_code < 500 or answer.status_code == 504, answer.text
        assert "Traceback" not in answer.text
        if "watch" in case.query and answer.status_code == 200:
            for line in answer.text.splitlines():
                assert {"type", "object"} <= set(json.loads(line)), line

    answered()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_case_is_answered(url, document) -> None:
    for operation in operations(url, document):
        slow = SLOW.lower() in operation.path and operation.method in ("post", "put")
        try_cases(operation, 2 if slow else EXAMPLES, lambda case: case.query.pop("watch", None))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_watch_is_answered_and_ends(url, document) -> None:
    def watch(case: schemathesis.Case) -> None:
        case.query |= {"watch": "true", "timeoutSeconds": "1"}

    for operation in operations(url, document):
        if operation.method == "get" and not operation.path.endswith("}"):
            try_cases(operation, WATCHES, watch)
