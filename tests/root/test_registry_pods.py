"""Pods whose images come from a real registry, on a real node: policies, reasons, events, secrets, imageID; and the command line's
pull and push. Excluded: what a client does with a registry's answers (test_registry_pull, test_registry_faults)."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import subprocess

import pytest

from tests.node import MINIPOD, eventually, shell, sleeper
from tests.registry.proxy import Fault, FaultProxy
from tests.registry.server import PASSWORD, USER, Layout, Registry, digest, skopeo

NOISE = random.Random(3).randbytes(2_000_000)  # noqa: S311 bytes that gzip can't shrink
REASON = "jsonpath={.status.containerStatuses[0].state.waiting.reason}"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A static busybox as an image of two layers, in three versions."""
    made = Layout(tmp_path_factory.mktemp("layout") / "images")
    with open("/bin/busybox", "rb") as file:
        busybox = file.read()
    for tag in ("one", "two", "bar"):
        noise = NOISE[::-1] if tag == "bar" else NOISE
        base = {"bin/sh": busybox, "bin/sleep": busybox, "noise": noise}
        made.image(tag, base, {"etc/version": tag.encode()})
    return made


@pytest.fixture(scope="module")
def registry(images, tmp_path_factory):
    made = Registry(tmp_path_factory.mktemp("registry")).start()
    for tag in ("one", "two", "bar"):
        made.fill(images, f"team/app:{tag}", tag)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def private(images, tmp_path_factory):
    made = Registry(tmp_path_factory.mktemp("private")).basic()
    for name in ("team/app:1", "team/other:1", "account/app:1"):
        made.fill(images, name, "one", f"--dest-creds={USER}:{PASSWORD}")
    yield made
    made.stop()


@pytest.fixture
def proxy(registry):
    with FaultProxy(registry.port) as made:
        yield made


def program(script: str, image: str, **more) -> dict:
    """A container whose image has sh and sleep."""
    return {"name": "app", "image": image, "command": ["/bin/sh", "-c", script], **more}


def await_events(node, pod: str, *wanted: tuple[str, str, str]) -> None:
    """Wait until all of these were written."""
    eventually(lambda: set(wanted) <= set(node.events(pod)))


def secret(node, name: str, registry: Registry, password: str = PASSWORD, key: str = "") -> None:
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    config = json.dumps({"auths": {key or registry.host: {"auth": auth}}})
    body = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(config.encode()).decode()},
    }  # fmt: skip
    node.client.request("POST", "/api/v1/namespaces/default/secrets", body=body)


@pytest.fixture
def secrets(node):
    """The names of Secrets to be removed when the test ends."""
    names: list[str] = []
    yield names
    for name in names:
        node.client.request("DELETE", f"/api/v1/namespaces/default/secrets/{name}")


@pytest.mark.smoke
def test_a_pod_pulls_its_image_and_shows_how_it_is_pinned(node, pods, registry, forget) -> None:
    image = f"{registry.host}/team/app:one"
    pods.append("pull")
    forget.append(image)
    pod = node.pod("pull", program("read _ < /etc/version; sleep 1000", image))
    status = pod["status"]["containerStatuses"][0]
    told = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{image}")
    assert status["imageID"] == f"{registry.host}/team/app@{digest(told.encode())}"
    assert status["image"] == image
    node.await_event("pull", reason="Started")  # behind those of the pull
    found = [
        (kind, reason, re.sub(r" in [\d.]+m?s$", " in T", m))
        for kind, reason, m in node.events("pull")
    ]
    assert [e for e in found if e[1].startswith("Pull")] == [
        ("Normal", "Pulling", f'Pulling image "{image}"'),
        ("Normal", "Pulled", f'Successfully pulled image "{image}" in T'),
    ]


def test_if_not_present_asks_no_registry_and_always_asks_for_the_digest(
    node, pods, proxy, forget
) -> None:
    image = f"{proxy.host}/team/app:one"
    forget.append(image)
    pods += ["first", "second", "third"]
    node.pod("first", program("sleep 1000", image))
    proxy.seen.clear()
    node.pod("second", program("sleep 1000", image, imagePullPolicy="IfNotPresent"))
    assert proxy.seen == []
    node.pod("third", program("sleep 1000", image, imagePullPolicy="Always"))
    assert [s.method for s in proxy.seen] == ["HEAD"]
    present = f'Container image "{image}" already present on machine'
    await_events(node, "second", ("Normal", "Pulled", present))


def test_ten_pods_at_once_fetch_each_layer_once(node, pods, proxy, forget) -> None:
    image = f"{proxy.host}/team/app:two"
    forget.append(image)
    names = [f"ten{n}" for n in range(10)]
    pods += names
    for name in names:
        node.pod(name, program("sleep 1000", image), wait="")
    node.run("wait", *(f"pod/{n}" for n in names), "--for=condition=Ready", "--timeout=60s")
    blobs = [s.target for s in proxy.seen if "/blobs/" in s.target]
    assert len(blobs) == len(set(blobs)) >= 2  # the config, the layers that are not here


def test_an_image_that_can_not_be_pulled_backs_off_with_the_kubelets_words(
    node, pods, registry
) -> None:
    image = f"{registry.host}/team/app:nope"
    pods.append("nope")
    node.pod("nope", program("true", image), wait=f"{REASON}=ErrImagePull")
    waiting = node.state("nope")["waiting"]
    assert waiting["reason"] in ("ErrImagePull", "ImagePullBackOff")
    node.wait("nope", f"{REASON}=ImagePullBackOff")
    assert node.state("nope")["waiting"]["message"] == f'Back-off pulling image "{image}"'
    said = f'failed to pull image "{image}": not found'
    await_events(
        node, "nope",
        ("Warning", "Failed", f'Failed to pull image "{image}": {said}'),
        ("Warning", "Failed", "Error: ErrImagePull"),
        ("Normal", "BackOff", f'Back-off pulling image "{image}"'),
    )  # fmt: skip
    assert node.get("nope")["status"]["phase"] == "Pending"


@pytest.mark.parametrize(
    ("image", "policy", "reason", "event"),
    [
        (
            "Upper/Case", "Always", "InvalidImageName",
            ("Warning", "InspectFailed", 'Failed to apply default image tag "Upper/Case": couldn\'t parse image name "Upper/Case": repository name (Case) must be lowercase'),  # noqa: E501
        ),
        (
            "nowhere.invalid/app:1", "Never", "ErrImageNeverPull",
            ("Warning", "ErrImageNeverPull",
             'Container image "nowhere.invalid/app:1" is not present with pull policy of Never'),
        ),
    ],
    ids=["invalid", "never"],
)  # fmt: skip
def test_what_no_pull_can_mend_says_so(node, pods, image, policy, reason, event) -> None:
    pods.append("bad")
    container = sleeper(image=image, imagePullPolicy=policy)
    node.pod("bad", container, wait=f"{REASON}={reason}")
    assert node.state("bad")["waiting"]["message"] == event[2]
    await_events(node, "bad", event)


def test_an_image_of_a_recipe_is_current_whatever_the_policy(node, pods) -> None:
    pods.append("own")
    node.pod("own", shell("sleep 1000", image="busybox", imagePullPolicy="Always"))


# -- secrets


def test_pull_secrets_of_the_pod_open_a_private_registry(
    node, pods, private, secrets, forget
) -> None:
    image = f"{private.host}/team/app:1"
    forget.append(image)
    pods += ["closed", "open"]
    node.pod("closed", program("true", image), wait=f"{REASON}=ErrImagePull")
    node.await_event("closed", words="authorization failed")
    for name, password, key in (
        ("wrong", "no", ""),
        ("elsewhere", PASSWORD, "other.example"),
        ("right", PASSWORD, f"http://{private.host}/team"),
    ):
        secret(node, name, private, password, key)
        secrets.append(name)
    wanted = [{"name": n} for n in ("missing", "elsewhere", "wrong", "right")]
    node.pod("open", program("sleep 1000", image), imagePullSecrets=wanted)
    said = "Unable to retrieve some image pull secrets (missing); attempting to pull the image may not succeed."
    await_events(node, "open", ("Warning", "FailedToRetrieveImagePullSecret", said))
    warned = [m for _, r, m in node.events("open") if r == "FailedToRetrieveImagePullSecret"]
    assert warned == [said]


@pytest.mark.parametrize("account", ["default", "builder"])
def test_pull_secrets_of_the_service_account_are_used(
    node, pods, private, secrets, forget, account: str
) -> None:
    image = f"{private.host}/account/app:1"
    forget.append(image)
    pods.append(account)
    secret(node, "accounts", private)
    secrets.append("accounts")
    path = "/api/v1/namespaces/default/serviceaccounts"
    merge = "application/merge-patch+json"
    names = {"imagePullSecrets": [{"name": "accounts"}]}
    if account != "default":
        node.client.request("POST", path, body={"metadata": {"name": account}})
    node.client.request("PATCH", f"{path}/{account}", body=names, content_type=merge)
    try:
        node.pod(account, program("sleep 1000", image), serviceAccountName=account)
    finally:
        nothing = {"imagePullSecrets": None}
        node.client.request("PATCH", f"{path}/{account}", body=nothing, content_type=merge)
        if account != "default":
            node.client.request("DELETE", f"{path}/{account}")


# -- the command line


@pytest.fixture
def docker_config(tmp_path, monkeypatch):
    """Write ~/.docker/config.json of a home of its own."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def write(**content) -> None:
        (tmp_path / "config.json").write_text(json.dumps(content))

    return write


def test_pull_and_push_print_plain_lines_to_a_file(node, private, docker_config, forget) -> None:
    docker_config(auths={private.host: {"username": USER, "password": PASSWORD}})
    name = f"{private.host}/team/other:1"
    forget.append(name)
    done = node.run("image", "pull", name)
    assert re.fullmatch(rf"pulled {private.host}/team/other@sha256:\w{{64}}\n", done.stdout)
    states = [line.partition(": ")[2] for line in done.stderr.splitlines()]
    assert states.count("Pull complete") == 2
    assert "\x1b" not in done.stderr
    again = node.run("image", "push", name)
    assert again.stderr.count("Layer already exists") == 3
    assert node.run("image", "pull", "-q", name).stdout.startswith("sha256:")


def test_a_person_sees_a_bar_for_each_layer(node, proxy, forget) -> None:
    name = f"{proxy.host}/team/app:bar"
    forget.append(name)
    proxy.faults.append(Fault(path="/blobs/", slow=0.001, times=3))
    command = f"{MINIPOD} --instance {node.instance.name} image pull {name}"
    shown = subprocess.run(
        ["script", "-qec", f"stty cols 100 rows 20; {command}", "/dev/null"],
        capture_output=True, text=True, check=True, timeout=50,
    ).stdout  # fmt: skip
    assert re.search(r"\w{12}: Downloading +\[=+> +\] [\d.]+[kM]B/[\d.]+MB", shown)
    assert "\x1b[2A" in shown


def test_a_credential_helper_is_asked(
    node, private, docker_config, tmp_path, monkeypatch, forget
) -> None:
    name = f"{private.host}/team/app:1"
    forget.append(name)
    helper = tmp_path / "docker-credential-test"
    answer = json.dumps({"ServerURL": private.host, "Username": USER, "Secret": PASSWORD})
    helper.write_text(
        f'#!/bin/sh\nread -r server; [ "$1 $server" = "get {private.host}" ] && echo \'{answer}\'\n'
    )
    helper.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    docker_config(credHelpers={private.host: "test"})
    node.run("image", "pull", name)
    docker_config(credHelpers={private.host: "nosuch"})
    failed = node.run("image", "pull", name, check=False)
    assert failed.returncode == 1
    assert "credential helper docker-credential-nosuch not found" in failed.stderr


def test_errors_of_pull_and_push_name_the_image_and_the_cause(node, registry, private) -> None:
    for words, why in (
        (("pull", f"{registry.host}/team/app:nope"), "not found"),
        (("pull", "UPPER"), "must be lowercase"),
        (("pull", f"{private.host}/team/app:1"), "authorization failed"),
        (("push", "nosuch:1"), "no image nosuch:1"),
    ):
        failed = node.run("image", *words, check=False)
        assert failed.returncode == 1
        assert why in failed.stderr
        assert "Traceback" not in failed.stderr
