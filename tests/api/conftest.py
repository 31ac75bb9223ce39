"""The API of a real node, asked by every kubectl that this machine has (MINIPOD_TEST_KUBECTL names others)."""

from __future__ import annotations

import contextlib
import functools

import pytest

from minipod import errors
from tests.kubectl import Kubectl, binaries
from tests.node import eventually, name_of_this_run, started

INSTANCE = f"{name_of_this_run()}k"

found = functools.cache(binaries)


def pytest_report_header() -> str:
    if not found():
        return (
            "NO KUBECTL: everything that needs one is SKIPPED; name one with MINIPOD_TEST_KUBECTL"
        )
    return f"kubectl: {', '.join(found())}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/api" in str(item.path):
            item.add_marker(pytest.mark.requires("root"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kubectl" in metafunc.fixturenames:
        metafunc.parametrize("kubectl", list(found()) or ["none"], indirect=True)
    elif "newest" in metafunc.fixturenames:
        metafunc.parametrize("newest", (list(found()) or ["none"])[-1:], indirect=True)


@pytest.fixture(scope="session")
def node():
    """A running node for all tests of the API; gone afterwards."""
    with started(INSTANCE) as made:
        yield made


@pytest.fixture
def kubectl(request, node, tmp_path_factory):
    """Each kubectl in turn, as administrator: for what a version may ask in its own way."""
    return made(request, node, tmp_path_factory)


@pytest.fixture
def newest(request, node, tmp_path_factory):
    """The newest kubectl, as administrator: for what the server does, whoever asks."""
    found_one = made(request, node, tmp_path_factory)
    if found_one.version < (1, 27):
        pytest.skip(f"kubectl {request.param} has no verbs for all that the server does")
    return found_one


def furnished(node, namespace: str) -> bool:
    """Whether a namespace has what the controllers give to each: an account, and then the API's certificate."""
    try:
        return bool(
            node.client.request(
                "GET", node.client.path("configmaps", namespace, "kube-root-ca.crt")
            )
        )
    except errors.NotFound:
        return False


@contextlib.contextmanager
def namespace(node, request):
    """A namespace of the test's own, made and deleted without a kubectl; it goes by itself."""
    name = "".join(c for c in request.node.name.lower() if c.isalnum())[-40:]
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    node.client.request("POST", "/api/v1/namespaces", body=body)
    try:
        eventually(lambda: furnished(node, name), 30)
        yield name
    finally:
        with contextlib.suppress(errors.NotFound):
            node.client.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def space(node, kubectl, request):
    """Each kubectl in a namespace of the test's own."""
    with namespace(node, request) as name:
        yield kubectl.within(name)


@pytest.fixture
def new_space(node, newest, request):
    """The newest kubectl in a namespace of the test's own."""
    with namespace(node, request) as name:
        yield newest.within(name)


def made(request, node, tmp_path_factory):
    if request.param == "none":
        pytest.skip("NO KUBECTL on this machine: name one with MINIPOD_TEST_KUBECTL")
    home = tmp_path_factory.getbasetemp() / f"home-{request.param}"
    home.mkdir(exist_ok=True)
    return Kubectl(
        request.param, found()[request.param], node.run("kubeconfig").stdout.strip(), str(home)
    )
