"""The image puller of one pod over a fake runtime and store: backoff in its exact steps, credentials one after another. Excluded:
registries (tests/root/test_registry_pods.py)."""

import base64
import json

import pytest

from minipod.errors import ImageError
from minipod.kubelet.images import ImagePuller
from minipod.kubelet.kubelet import Kubelet
from minipod.kubelet.rules.pods import compile_pod
from minipod.spec.instance import Instance
from minipod.spec.registry import ANONYMOUS, AuthConfig
from minipod.spec.sandbox import DnsConfig
from tests.fakes.runtime import FakeRuntime
from tests.fakes.store import FakeStore


class Images:
    """What a puller works with; *now* is set by hand."""

    def __init__(self, tmp_path) -> None:
        self.now = 1_700_000_000.0
        self.runtime, self.store = FakeRuntime(clock=lambda: self.now), FakeStore()
        self.tried: list[AuthConfig] = []
        self.right: AuthConfig | None = None  # the credentials that work
        self.runtime.pull_image = self.pull
        roots = {
            "run_root": str(tmp_path),
            "state_root": str(tmp_path),
            "registries": str(tmp_path),
        }
        instance = Instance(name="unittest", node_name="node", **roots)
        kubelet = Kubelet(
            instance, self.store, self.runtime, self.runtime, clock=lambda: self.now,
            host_ip="192.0.2.1", host_dns=lambda: DnsConfig(servers=()), jitter=lambda: 1.0,
        )  # fmt: skip
        self.puller = ImagePuller(kubelet.context)

    async def pull(self, image, auth=ANONYMOUS, **_):
        self.tried.append(auth)
        if auth != self.right:
            raise ImageError("denied", reason="ErrImagePull")
        return await self.runtime.image_status("busybox:1.36")

    async def ensure(self, *secrets: str, image: str = "r.x/app:1") -> str:
        """Return the waiting reason, "" when the image is there."""
        spec = {
            "containers": [{"name": "app", "image": image}],
            "imagePullSecrets": [{"name": name} for name in secrets],
        }
        raw = {"metadata": {"name": "web", "namespace": "default", "uid": "u"}, "spec": spec}
        pod = compile_pod(raw)
        try:
            await self.puller.ensure(pod, pod.containers[0])
        except ImageError as e:
            return e.reason
        return ""

    async def secret(self, name: str, password: str) -> None:
        auths = {"r.x": {"username": "u", "password": password}}
        data = base64.b64encode(json.dumps({"auths": auths}).encode()).decode()
        secret = {
            "metadata": {"name": name},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": data},
        }
        await self.store.create("secrets", "default", secret)


@pytest.fixture
def images(tmp_path):
    return Images(tmp_path)


async def test_each_failure_doubles_the_wait_up_to_five_minutes(images):
    waits = []
    for _ in range(8):
        assert await images.ensure() == "ErrImagePull"
        due = images.puller.retry_at("r.x/app:1")
        waits.append(due - images.now)
        images.now = due - 0.01
        assert await images.ensure() == "ImagePullBackOff"
        images.now = due
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]
    assert len(images.tried) == 8


async def test_a_success_and_a_long_time_forget_the_backoff(images):
    await images.ensure()
    images.now += 11
    await images.ensure()
    images.now += 601
    await images.ensure()
    assert images.puller.retry_at("r.x/app:1") == images.now + 10
    images.now += 10
    images.right = ANONYMOUS
    assert await images.ensure() == ""
    assert images.puller.retry_at("r.x/app:1") is None


async def test_another_image_has_a_backoff_of_its_own(images):
    assert await images.ensure() == "ErrImagePull"
    assert await images.ensure(image="r.x/other:1") == "ErrImagePull"


async def test_each_credential_that_fits_is_tried_until_one_works(images):
    for name, password in (("a", "1"), ("b", "2"), ("c", "3")):
        await images.secret(name, password)
    images.right = AuthConfig(username="u", password="2")  # noqa: S106 not a secret
    assert await images.ensure("gone", "a", "b", "c") == ""
    assert [auth.password for auth in images.tried] == ["1", "2"]


async def test_the_service_accounts_secrets_count_when_the_pod_has_none(images):
    await images.secret("mine", "1")
    account = {"metadata": {"name": "default"}, "imagePullSecrets": [{"name": "mine"}]}
    await images.store.create("serviceaccounts", "default", account)
    images.right = AuthConfig(username="u", password="1")  # noqa: S106 not a secret
    assert await images.ensure() == ""


async def test_the_nodes_credentials_serve_every_pod(images, tmp_path):
    config = {"auths": {"*.x": {"username": "u", "password": "node"}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    images.right = AuthConfig(username="u", password="node")  # noqa: S106 not a secret
    assert await images.ensure() == ""


async def test_a_wrong_name_is_no_reason_to_pull(images):
    async def refuse(_):
        raise ImageError("couldn't parse image name", reason="InvalidImageName")

    images.runtime.image_status = refuse
    assert await images.ensure(image="Upper") == "InvalidImageName"
    assert images.tried == []
