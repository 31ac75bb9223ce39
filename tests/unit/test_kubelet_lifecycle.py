"""The kubelet's actors over a fake runtime and store, on looptime. Excluded: the kernel, the prober
process."""

import asyncio
import errno
import os
import time
from itertools import pairwise

import pytest

from minipod.errors import SetupFailed
from minipod.kubelet.rules.probe import ProbeResult
from tests.fakes.kubelet import Node, clock, running
from tests.fakes.runtime import FakeRuntime
from tests.fakes.store import FakeStore

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path, FakeRuntime(clock=clock), FakeStore())


async def test_a_pod_comes_up_and_its_status_says_so(node):
    async with running(node):
        await node.apply("web")
        await node.until(lambda: node.status("web").get("phase") == "Running")
        status = node.status("web")
        conditions = {c["type"]: c["status"] for c in status["conditions"]}
        assert set(conditions.values()) == {"True"}
        assert status["podIP"] == "10.0.0.1"
        assert status["hostIP"] == "192.0.2.1"
        assert status["qosClass"] == "BestEffort"
        assert node.container("web")["state"]["running"]["startedAt"].startswith("2023-11-14T")
        await node.until(lambda: len(node.events()) == 4)
        message = 'Container image "busybox:1.36" already present on machine'
        assert ("Pulled", message) in node.events()
        assert ("Created", "Created container app") in node.events()
        assert ("Started", "Started container app") in node.events()
        assert [r for r, _ in node.events() if r == "MissingClusterDNS"] == ["MissingClusterDNS"]


async def test_the_node_registers_itself_as_ready(node):
    async with running(node):
        await node.until(lambda: ("leases", "kube-node-lease", "node") in node.store.objects)
        told = node.store.objects["nodes", "", "node"]["status"]["conditions"]
        assert {c["type"]: c["status"] for c in told}["Ready"] == "True"


async def test_few_status_writes_bring_a_pod_up(node):
    async with running(node):
        await node.apply("web")
        await node.until(lambda: node.status("web").get("phase") == "Running")
        await asyncio.sleep(100)
        writes = [w for w in node.store.writes if w[:2] == ("MODIFIED", "pods")]
        assert len(writes) <= 2


async def test_init_containers_run_one_after_another_before_the_apps(node):
    node.runtime.exits = {"one": [0], "two": [0]}
    image = "busybox:1.36"
    async with running(node):
        await node.apply(
            "web",
            initContainers=[{"name": "one", "image": image}, {"name": "two", "image": image}],
        )
        await node.until(lambda: node.runtime.calls.count("start_container one") == 1)
        await asyncio.sleep(0.5)
        assert node.status("web")["phase"] == "Pending"
        assert node.container("web")["state"] == {"waiting": {"reason": "PodInitializing"}}
        await node.until(lambda: node.status("web").get("phase") == "Running")
        starts = [c for c in node.runtime.calls if c.startswith("start_")]
        assert starts == ["start_container one", "start_container two", "start_container app"]


async def test_a_crash_loop_waits_ten_then_twenty_seconds(node):
    node.runtime.exits = {"app": [1, 1, 1, 1]}
    async with running(node):
        await node.apply("web")
        starts = []
        for count in range(1, 5):
            await node.until(
                lambda count=count: node.runtime.calls.count("start_container app") == count
            )
            starts.append(clock())
            if count == 3:
                await node.until(lambda: "waiting" in node.container("web")["state"])
                waiting = node.container("web")["state"]["waiting"]
                assert waiting["reason"] == "CrashLoopBackOff"
                assert waiting["message"] == (
                    "back-off 20s restarting failed container=app pod=web_default(uid-web)"
                )
                assert node.container("web")["lastState"]["terminated"]["exitCode"] == 1
        gaps = [round(b - a) for a, b in pairwise(starts)]
        assert gaps == [1, 11, 21]  # each ran for a second
        await node.until(lambda: node.container("web")["restartCount"] == 3)


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [
        pytest.param("Never", 0, "Succeeded", id="never-zero"),
        pytest.param("Never", 3, "Failed", id="never-nonzero"),
        pytest.param("OnFailure", 0, "Succeeded", id="onfailure-zero"),
    ],
)
async def test_a_finished_pod_keeps_its_container_and_loses_its_sandbox(
    node, policy, code, expected
):
    node.runtime.exits = {"app": [code]}
    async with running(node):
        await node.apply("job", restartPolicy=policy)
        await node.until(lambda: node.status("job").get("phase") == expected)
        await node.until(lambda: "stop_pod_sandbox" in node.runtime.calls)
        assert node.container("job")["state"]["terminated"]["exitCode"] == code
        await asyncio.sleep(1000)
        assert node.runtime.calls.count("start_container app") == 1
        assert len(node.runtime.containers) == 1
        assert node.status("job")["phase"] == expected


async def test_a_finished_pod_gives_back_its_volumes_and_keeps_its_container(node, tmp_path):
    """SyncTerminatedPod: nobody can read an emptyDir any more, and the disk may be short of it."""
    node.runtime.exits = {"app": [0]}
    volumes = tmp_path / "state/unittest/pods/uid-job/volumes/kubernetes.io~empty-dir/v"
    async with running(node):
        await node.apply("job", restartPolicy="Never", volumes=[{"name": "v", "emptyDir": {}}])
        await node.until(volumes.is_dir)
        await node.until(lambda: node.status("job").get("phase") == "Succeeded")
        await node.until(lambda: not volumes.parents[1].exists())
        assert volumes.parents[2].is_dir()  # what the pod's ids and hosts file are in
        assert len(node.runtime.containers) == 1


async def test_delete_stops_containers_in_parallel_and_removes_the_object_last(node):
    two = [{"name": n, "image": "busybox:1.36"} for n in ("a", "b")]
    node.runtime.ignores = {"a", "b"}
    async with running(node):
        await node.apply("web", containers=two)
        await node.until(lambda: node.status("web").get("phase") == "Running")
        began = clock()
        await node.store.delete("pods", "default", "web", grace_period=7)
        await node.until(lambda: ("pods", "default", "web") not in node.store.objects)
        assert clock() - began == pytest.approx(7, abs=0.5)
        assert node.runtime.calls[-1] == "remove_pod_sandbox"
        assert not node.runtime.sandboxes
        assert node.store.writes[-1] == ("DELETED", "pods", "web")


async def test_a_second_delete_with_less_grace_shortens_the_first(node):
    node.runtime.ignores = {"app"}
    async with running(node):
        await node.apply("web")
        await node.until(lambda: node.status("web").get("phase") == "Running")
        began = clock()
        await node.store.delete("pods", "default", "web", grace_period=300)
        await asyncio.sleep(5)
        await node.store.delete("pods", "default", "web", grace_period=3)
        await node.until(lambda: ("pods", "default", "web") not in node.store.objects)
        assert clock() - began == pytest.approx(8, abs=0.5)


async def test_a_second_delete_shortens_all_containers_at_once(node):
    """One after the other each would get its two seconds when the one before it has ended."""
    names = ["a", "b", "c", "d"]
    node.runtime.ignores = set(names)
    async with running(node):
        await node.apply("web", containers=[{"name": n, "image": "busybox:1.36"} for n in names])
        await node.until(lambda: node.status("web").get("phase") == "Running")
        began = clock()
        await node.store.delete("pods", "default", "web", grace_period=300)
        await asyncio.sleep(5)
        await node.store.delete("pods", "default", "web", grace_period=3)
        await node.until(lambda: ("pods", "default", "web") not in node.store.objects)
        assert clock() - began == pytest.approx(8, abs=0.9)


async def test_pre_stop_takes_its_time_out_of_the_grace_period(node):
    lifecycle = {"preStop": {"sleep": {"seconds": 4}}}
    app = {"name": "app", "image": "busybox:1.36", "lifecycle": lifecycle}
    async with running(node):
        await node.apply("web", containers=[app])
        await node.until(lambda: node.status("web").get("phase") == "Running")
        await node.store.delete("pods", "default", "web", grace_period=10)
        await node.until(lambda: ("pods", "default", "web") not in node.store.objects)
        assert "stop_container app 6" in node.runtime.calls


async def test_a_failed_post_start_hook_kills_the_container_and_says_why(node):
    from minipod.runtime.service import ExecResult

    node.runtime.exec_results = [ExecResult(stdout=b"no", stderr=b"", exit_code=2)]
    lifecycle = {"postStart": {"exec": {"command": ["prepare"]}}}
    app = {"name": "app", "image": "busybox:1.36", "lifecycle": lifecycle}
    async with running(node):
        await node.apply("web", containers=[app])
        await node.until(lambda: "containerStatuses" in node.status("web"))
        await node.until(lambda: "FailedPostStartHook" in dict(node.events()))
        await node.until(lambda: node.status("web")["phase"] == "Running")
        assert node.container("web")["restartCount"] == 1


async def test_a_command_that_does_not_exist_shows_in_the_status(node):
    node.runtime.fail_start["app"] = SetupFailed("execve", errno=2, subject="/nope")
    async with running(node):
        await node.apply("web")
        await node.until(lambda: "Failed" in dict(node.events()))
        await node.until(lambda: "waiting" in node.container("web")["state"])
        await node.until(lambda: node.container("web")["lastState"] != {})
        waiting = node.container("web")["state"]["waiting"]
        assert waiting["reason"] == "RunContainerError"
        assert "/nope" in waiting["message"]
        assert node.container("web")["lastState"]["terminated"]["reason"] == "StartError"


async def test_a_missing_image_is_pulled_with_backoff(node):
    async with running(node):
        await node.apply("web", containers=[{"name": "app", "image": "gone:1"}])
        reason = lambda: (  # noqa: E731
            (node.status("web").get("containerStatuses") or [{"state": {}}])[0]["state"]
            .get("waiting", {})
            .get("reason")
        )
        await node.until(lambda: reason() == "ErrImagePull")
        await node.until(lambda: reason() == "ImagePullBackOff")
        await node.until(lambda: node.runtime.calls.count("pull_image gone:1") == 3)
        assert asyncio.get_running_loop().time() == pytest.approx(31, abs=3)


async def test_a_pod_deleted_during_a_pull_does_not_wait_for_it(node):
    started = asyncio.Event()

    async def pull_forever(image, progress=None):
        started.set()
        await asyncio.Event().wait()

    node.runtime.pull_image = pull_forever
    async with running(node):
        await node.apply("web", containers=[{"name": "app", "image": "slow:1"}])
        await started.wait()
        await node.store.delete("pods", "default", "web", grace_period=30)
        await node.until(lambda: ("pods", "default", "web") not in node.store.objects, 5)


async def test_a_hook_does_not_begin_when_its_pod_was_deleted_while_it_was_started(
    node, monkeypatch
):
    """Else the deletion waits for all of the hook: there was nothing to interrupt yet."""
    real = node.runtime.start_container

    async def start_slowly(container):
        await real(container)
        await node.store.delete("pods", "default", "web", grace_period=3)
        await asyncio.sleep(1)

    monkeypatch.setattr(node.runtime, "start_container", start_slowly)
    lifecycle = {"postStart": {"sleep": {"seconds": 500}}}
    async with running(node):
        await node.apply(
            "web", containers=[{"name": "app", "image": "busybox:1.36", "lifecycle": lifecycle}]
        )
        began = clock()
        await node.until(lambda: ("pods", "default", "web") not in node.store.objects, 1000)
        assert clock() - began < 20


async def test_a_sandbox_that_can_not_be_removed_does_not_keep_the_kubelet_from_starting(
    node, tmp_path, monkeypatch
):
    """Its pod was removed while no kubelet ran, and a process of it hangs in the kernel: its cgroup is busy."""
    async with running(node):
        await node.apply("hangs")
        await node.until(lambda: node.status("hangs").get("phase") == "Running")
    del node.store.objects["pods", "default", "hangs"]

    async def busy(_sandbox: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(node.runtime, "remove_pod_sandbox", busy)
    again = Node(tmp_path, node.runtime, node.store)
    async with running(again):
        await again.apply("web")
        await again.until(lambda: again.status("web").get("phase") == "Running")
        assert again.runtime.sandboxes


async def test_a_restarted_kubelet_keeps_running_containers_and_backoff(node, tmp_path):
    node.runtime.exits = {"app": [1, 1]}
    async with running(node):
        await node.apply("web")
        await node.until(lambda: node.runtime.calls.count("start_container app") == 2)
        await asyncio.sleep(1.5)  # it has exited again and waits ten seconds
    began = clock()
    second = Node(tmp_path, node.runtime, node.store)
    async with running(second):
        await second.until(lambda: node.runtime.calls.count("start_container app") == 3)
        assert clock() - began == pytest.approx(9.5, abs=0.5)
        await second.until(lambda: second.container("web")["restartCount"] == 2)
    pid = node.runtime.running("app").id
    third = Node(tmp_path, node.runtime, node.store)
    async with running(third):
        await asyncio.sleep(60)
        assert node.runtime.running("app").id == pid
        assert third.container("web")["restartCount"] == 2


async def test_sandboxes_of_unknown_pods_are_removed_at_start(node, tmp_path):
    async with running(node):
        await node.apply("web")
        await node.until(lambda: node.status("web").get("phase") == "Running")
    await node.store.delete("pods", "default", "web", grace_period=0)
    async with running(Node(tmp_path, node.runtime, node.store)):
        await node.until(lambda: not node.runtime.sandboxes)


async def test_readiness_follows_the_prober_and_survives_a_restart(node, tmp_path):
    probe = {"tcpSocket": {"port": 80}}
    app = {"name": "app", "image": "busybox:1.36", "readinessProbe": probe}

    def ready(of: Node) -> bool:
        return bool(of.status("web").get("containerStatuses")) and of.container("web")["ready"]

    async with running(node):
        await node.apply("web", containers=[app])
        await node.until(lambda: node.status("web").get("phase") == "Running")
        assert not ready(node)
        cid = node.runtime.running("app").id
        node.kubelet.context.probes.seed("uid-web", "app", cid, ready=True, started=False)
        node.kubelet._wake("uid-web")
        await node.until(lambda: ready(node))
    second = Node(tmp_path, node.runtime, node.store)
    async with running(second):
        await asyncio.sleep(5)
        assert ready(second)
        results = second.kubelet.context.probes.results("uid-web")
        assert results.readiness[cid] is ProbeResult.SUCCESS


async def test_active_deadline_fails_the_pod(node):
    async with running(node):
        await node.apply("web", activeDeadlineSeconds=50)
        await node.until(lambda: node.status("web").get("phase") == "Failed")
        assert asyncio.get_running_loop().time() == pytest.approx(50, abs=2)
        status = node.status("web")
        assert status["reason"] == "DeadlineExceeded"
        assert status["message"] == "Pod was active on the node longer than the specified deadline"
        assert node.container("web")["state"]["terminated"]["exitCode"] == 143


async def test_what_a_thread_does_takes_no_virtual_time():
    """Or these tests' times would be those of the machine's load."""
    began = clock()
    await asyncio.to_thread(time.sleep, 0.02)
    assert clock() == began
