"""schemathesis against our own OpenAPI: cases along the document and around it, the same ones each time.

Excluded: watches, which do not end by themselves, and kinds with a pod in them, whose cases take seconds to be made up;
test_apiserver_fuzz_http has every operation.
"""

from __future__ import annotations

import asyncio
import threading

import hypothesis
import pytest
import schemathesis
from aiohttp import web

from tests.apiserver import Server

PATHS = r"/(configmaps|leases|roles|events|namespaces|limitranges)(/\{name\})?$"
EXAMPLES = 3


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


@pytest.mark.parametrize(
    "document", ["api/v1", "apis/rbac.authorization.k8s.io/v1", "apis/coordination.k8s.io/v1"]
)
def test_every_case_is_answered(url, document) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi/v3/{document}").include(path_regex=PATHS)
    for found in schema.get_all_operations():
        operation = found.ok()
        print(operation.label)

        @hypothesis.settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck))  # fmt: skip
        @hypothesis.given(case=operation.as_strategy())
        def answered(case: schemathesis.Case) -> None:
            case.query.pop("watch", None)
            if "namespace" in case.path_parameters:
                case.path_parameters["namespace"] = "default"
            answer = case.call(timeout=30)
            assert answer.status_code < 500 or answer.status_code == 504, answer.text
            assert "Traceback" not in answer.text

        answered()
