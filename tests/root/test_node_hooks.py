"""Sidecars, hooks, stop signals, grace periods, OOM and ephemeral containers on the real kernel."""

from __future__ import annotations

import glob
import os
import subprocess
import time

import pytest
import yaml

from tests.node import MINIPOD, Node, eventually, shell, sleeper

IMAGE = "busybox:1.36"
SHARED = {
    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
}
VOLUME = {"volumes": [{"name": "v", "emptyDir": {}}]}


def sidecar(script: str, name: str = "side", **more) -> dict:
    return {"image": IMAGE, "restartPolicy": "Always", **shell(script, name, **more)}


def stamped(path: str) -> str:
    """A script that says when it is ready for SIGTERM, notes when that came, and ends."""
    return f"trap 'cat /proc/uptime > {path}; exit 0' TERM; touch {path}.up; while :; do sleep 0.02; done"


def seconds_to_delete(node: Node, *words: str) -> float:
    began = time.monotonic()
    node.run("delete", "pod", *words)
    return time.monotonic() - began


def test_a_sidecar_runs_beside_the_apps_and_does_not_keep_the_pod(node, pods) -> None:
    pods.append("job")
    done = node.pod(
        "job",
        shell("while ! [ -e /v/side ]; do sleep 0.05; done; echo seen", **SHARED),
        wait="jsonpath={.status.phase}=Succeeded",
        restartPolicy="Never",
        initContainers=[
            sidecar("touch /v/side; sleep 1000", **SHARED),
            {
                "image": IMAGE,
                **shell("while ! [ -e /v/side ]; do sleep 0.05; done", "init", **SHARED),
            },
        ],
        **VOLUME,
    )
    assert node.run("logs", "job", "-c", "app").stdout == "seen\n"
    side = done["status"]["initContainerStatuses"][0]
    assert side["state"]["terminated"]["exitCode"] in (137, 143)
    assert node.run("get", "pod", "job").stdout.split("\n")[1].split()[1:3] == ["0/2", "Completed"]


@pytest.mark.smoke
def test_sidecars_stop_after_the_apps_in_reverse_order(node, pods, tmp_path) -> None:
    volume = [{"name": "v", "hostPath": {"path": str(tmp_path)}}]
    tmp_path.chmod(0o777)
    pods.append("order")
    node.pod(
        "order", shell(stamped("/v/app"), **SHARED),
        initContainers=[
            sidecar(stamped("/v/first"), "first", **SHARED),
            sidecar(stamped("/v/second"), "second", **SHARED),
        ],
        volumes=volume, terminationGracePeriodSeconds=600,
    )  # fmt: skip
    names = ("app", "second", "first")
    eventually(lambda: all((tmp_path / f"{n}.up").exists() for n in names))
    node.run("delete", "pod", "order")
    times = [float((tmp_path / n).read_text().split()[0]) for n in names]
    assert times == sorted(times)


def test_a_sidecar_that_dies_during_init_comes_back_and_init_goes_on(node, pods) -> None:
    pods.append("dies")
    script = "if [ -e /v/x ]; then touch /v/again; sleep 1000; fi; touch /v/x; exit 1"
    got = node.pod(
        "dies", sleeper(**SHARED),
        initContainers=[
            sidecar(script, **SHARED),
            {"image": IMAGE, **shell("until [ -e /v/again ]; do sleep 0.05; done", "init", **SHARED)},
        ],
        **VOLUME,
    )  # fmt: skip
    side, init = got["status"]["initContainerStatuses"]
    assert (side["restartCount"], side["lastState"]["terminated"]["exitCode"]) == (1, 1)
    assert (init["restartCount"], init["state"]["terminated"]["reason"]) == (0, "Completed")


def test_a_pod_whose_init_container_fails_for_ever_says_so(node, pods) -> None:
    pods.append("never")
    got = node.pod(
        "never", sleeper(),
        wait="jsonpath={.status.initContainerStatuses[0].state.waiting.reason}=CrashLoopBackOff",
        initContainers=[{"image": IMAGE, **shell("exit 3", "init")}],
    )  # fmt: skip
    status = got["status"]
    assert status["phase"] == "Pending"
    assert status["initContainerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 3
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    assert "Init:CrashLoopBackOff" in node.run("get", "pod", "never").stdout
    initialized = next(c for c in status["conditions"] if c["type"] == "Initialized")
    assert initialized["message"] == "containers with incomplete status: [init]"


def test_a_container_that_ignores_sigterm_is_killed_when_its_grace_ends(node, pods) -> None:
    """Not before; how soon behind it is tests/unit/test_kubelet_lifecycle.py's."""
    pods.append("deaf")
    node.pod("deaf", shell("trap '' TERM; echo deaf; while :; do sleep 0.1; done"))
    node.await_log("deaf", "deaf")
    assert seconds_to_delete(node, "deaf", "--grace-period=3") >= 3.0


def test_a_pre_stop_hook_that_overruns_leaves_two_seconds(node, pods, tmp_path) -> None:
    """SIGTERM comes when the grace period is over, and SIGKILL not at once."""
    tmp_path.chmod(0o777)
    app = shell(stamped("/v/app"), **SHARED)
    app["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", "1000"]}}}
    pods.append("overrun")
    node.pod("overrun", app, volumes=[{"name": "v", "hostPath": {"path": str(tmp_path)}}])
    eventually((tmp_path / "app.up").exists)
    assert seconds_to_delete(node, "overrun", "--grace-period=2") >= 2.0
    assert (tmp_path / "app").exists()


def test_a_second_delete_shortens_a_pre_stop_hook(node, pods) -> None:
    app = sleeper(lifecycle={"preStop": {"sleep": {"seconds": 1000}}})
    pods.append("shorter")
    node.pod("shorter", app, terminationGracePeriodSeconds=1000)
    node.run("delete", "pod", "shorter", "--grace-period=1000", "--no-wait")
    node.run("delete", "pod", "shorter", "--grace-period=1")  # waits for its end


@pytest.mark.parametrize(
    "handler",
    [
        {"exec": {"command": ["touch", "/tmp/hooked"]}},
        {"httpGet": {"port": 8080, "path": "/cgi-bin/hook"}},
        {"tcpSocket": {"port": 8080}},
        {"sleep": {"seconds": 0}},
    ],
    ids=["exec", "http", "tcp", "sleep"],
)
def test_a_post_start_hook_runs_before_the_container_counts_as_running(node, pods, handler) -> None:
    pods.append("hook")
    # The server is up before the hook connects: the one that makes it ready is an init container's sidecar.
    server = sidecar(
        "mkdir -p /www; httpd -f -p 8080 -h /www",
        "server",
        startupProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    )
    got = node.pod("hook", sleeper(lifecycle={"postStart": handler}), initContainers=[server])
    assert got["status"]["containerStatuses"][0]["restartCount"] == 0
    if "exec" in handler:
        node.exec("hook", "test", "-e", "/tmp/hooked", container="app")


def test_a_failed_post_start_hook_restarts_the_container(node, pods) -> None:
    pods.append("badhook")
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "echo no; exit 7"]}}}
    node.pod(
        "badhook", shell("trap 'exit 0' TERM; while :; do sleep 0.05; done", lifecycle=hook),
        wait="jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff",
    )  # fmt: skip
    node.await_event("badhook", reason="FailedPostStartHook", words="exited with 7")
    assert "exited with 7" in node.run("events", "--for", "pod/badhook").stdout


def test_stop_signal_replaces_sigterm(node, pods, tmp_path) -> None:
    tmp_path.chmod(0o777)
    script = "trap 'echo usr1 > /v/got; exit 0' USR1; trap '' TERM; touch /v/up; while :; do sleep 0.02; done"
    pods.append("signal")
    node.pod(
        "signal", shell(script, lifecycle={"stopSignal": "SIGUSR1"}, **SHARED),
        volumes=[{"name": "v", "hostPath": {"path": str(tmp_path)}}],
    )  # fmt: skip
    eventually((tmp_path / "up").exists)  # the trap is set
    node.run("delete", "pod", "signal", "--grace-period=1000")
    assert (tmp_path / "got").read_text() == "usr1\n"


def test_oom_of_the_first_process_is_oomkilled(node, pods) -> None:
    pods.append("oom1")
    limit = {"resources": {"limits": {"memory": "16Mi"}}}
    node.pod(
        "oom1", shell("exec tail /dev/zero", **limit),
        wait="jsonpath={.status.phase}=Failed", restartPolicy="Never",
    )  # fmt: skip
    ended = node.state("oom1")["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_a_termination_message_comes_from_its_file_or_the_end_of_the_log(node, pods) -> None:
    pods.append("message")
    policy = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    node.pod(
        "message",
        shell("echo from the file > /dev/termination-log; echo logged; exit 1", "a", **policy),
        shell("echo early; seq 1 3000; echo last words; exit 1", "b", **policy),
        shell("echo from the file > /run/why; exit 0", "c", terminationMessagePath="/run/why"),
        shell("echo logged; exit 1", "d"),
        wait="jsonpath={.status.phase}=Failed", restartPolicy="Never",
    )  # fmt: skip
    eventually(lambda: "last words" in messages(node.get("message"))[1])
    got = node.get("message")
    assert messages(got)[0] == "from the file\n"
    assert messages(got)[1].endswith("3000\nlast words\n")
    assert len(messages(got)[1].splitlines()) == 80
    assert messages(got)[2:] == ["from the file\n", ""]


def messages(pod: dict) -> list[str]:
    found = [c["state"]["terminated"] for c in pod["status"]["containerStatuses"]]
    return [ended.get("message", "") for ended in found]


@pytest.mark.requires("cgroup1")  # on v2 memory.oom.group kills the whole container
def test_oom_of_a_child_is_an_event_that_names_the_process(node, pods) -> None:
    pods.append("oom2")
    limit = {"resources": {"limits": {"memory": "16Mi"}}}
    node.pod("oom2", shell("tail /dev/zero; echo survived; sleep 1000", **limit))
    message = node.await_event("oom2", reason="OOMKilling")
    assert message.startswith("Memory cgroup out of memory: Killed process ")
    assert message.endswith("(tail)")
    assert "running" in node.state("oom2")
    assert node.get("oom2")["status"]["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.smoke
def test_an_ephemeral_container_sees_the_processes_of_its_target(node, pods) -> None:
    pods.append("debugged")
    node.pod("debugged", sleeper())
    debug = {
        "name": "debug", "image": IMAGE, "targetContainerName": "app",
        "command": ["sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '; exit 4"],
    }  # fmt: skip
    path = "/api/v1/namespaces/default/pods/debugged/ephemeralcontainers"
    patch = {"spec": {"ephemeralContainers": [debug]}}
    node.client.request(
        "PATCH", path, body=patch, content_type="application/strategic-merge-patch+json"
    )
    where = ".status.ephemeralContainerStatuses[0].state.terminated.exitCode"
    node.wait("debugged", f"jsonpath={{{where}}}=4")
    assert node.run("logs", "debugged", "-c", "debug").stdout.strip() == "sleep 1000"
    got = node.get("debugged")
    assert got["status"]["containerStatuses"][0]["ready"]
    assert got["status"]["phase"] == "Running"


def test_a_changed_image_restarts_just_that_container(node, pods) -> None:
    pods.append("image")
    got = node.pod("image", sleeper("a"), sleeper("b"))
    ids = {c["name"]: c["containerID"] for c in got["status"]["containerStatuses"]}
    patch = {"spec": {"containers": [{"name": "a", "image": "docker.io/library/busybox:1.36"}]}}
    path = "/api/v1/namespaces/default/pods/image"
    node.client.request(
        "PATCH", path, body=patch, content_type="application/strategic-merge-patch+json"
    )
    where = ".status.containerStatuses[0].restartCount"
    node.wait("image", f"jsonpath={{{where}}}=1")
    node.wait("image", "condition=Ready")
    now = {c["name"]: c["containerID"] for c in node.get("image")["status"]["containerStatuses"]}
    assert now["a"] != ids["a"]
    assert now["b"] == ids["b"]
    node.await_event("image", words="Container a definition changed, will be restarted")
    got = node.get("image")
    assert got["metadata"]["generation"] == got["status"]["observedGeneration"] == 2


def test_a_log_is_rotated_and_compressed_and_its_follower_sees_every_line(node, pods) -> None:
    pods.append("chatty")
    line = "x" * 1000
    # Ten MiB are exceeded three times, each time when the log was rotated for the one before.
    turns = (
        "for n in 1 2 3; do until [ -e /$n ]; do usleep 20000; done; yes $0 | head -n 11000; done"
    )
    script = {**shell(f"echo first; {turns}; echo last; sleep 1000"), "args": [line]}
    pod = node.pod("chatty", script)
    log = node.containers(pod)["app"]["log"]
    words = [MINIPOD, "--instance", node.instance.name, "logs", "-f", "chatty"]
    lines = 0
    with subprocess.Popen(words, stdout=subprocess.PIPE) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"first\n"  # it follows
        for turn in range(1, 4):
            node.exec("chatty", "touch", f"/{turn}")
            eventually(lambda turn=turn: len(glob.glob(f"{log}.*")) >= turn)
        for text in follower.stdout:
            lines += 1
            if text == b"last\n":
                break
        follower.terminate()
    assert lines == 33001
    files = await_compressed(log)
    assert len(files) == 3  # and the one that is written
    first = subprocess.run(["gzip", "-dc", files[0]], capture_output=True, check=True).stdout
    assert first.split(b" ", 3)[3].startswith(b"first\n")
    (link,) = glob.glob(f"{node.instance.log_link_dir}/chatty_default_app-*.log")
    assert os.path.realpath(link) == log


def await_compressed(log: str) -> list[str]:
    """The rotated files, oldest first, once all but the newest are compressed."""

    def compressed() -> list[str]:
        files = sorted(glob.glob(f"{log}.*"), key=lambda n: n.removesuffix(".gz"))
        done = len(files) > 1 and all(f.endswith(".gz") for f in files[:-1])
        return files if done else []

    return eventually(compressed, 100)  # at idle priority


def test_a_static_pod_runs_from_its_file_and_its_mirror_can_be_read_but_not_stopped(node) -> None:
    directory = node.instance.static_pod_dir
    path = f"{directory}/static.yaml"
    manifest = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "static"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"image": IMAGE, **shell("echo from a file; sleep 1000")}],
        },
    }  # fmt: skip
    with open(path, "w", encoding="utf-8") as file:
        yaml.safe_dump(manifest, file)
    try:
        name = f"static-{node.status()['node']}"
        wait_for_mirror(node, name)
        node.wait(name, "condition=Ready")
        assert node.await_log(name, "\n") == "from a file\n"
        started = node.state(name)["running"]["startedAt"]
        node.run("delete", "pod", name, "--no-wait")
        wait_for_mirror(node, name)
        node.wait(name, "condition=Ready")
        assert node.state(name)["running"]["startedAt"] == started
    finally:
        os.unlink(path)
    node.wait(name, "delete")


def wait_for_mirror(node: Node, name: str) -> None:
    """The mirror is there, and not on its way out."""

    def there() -> bool:
        items = node.client.request("GET", "/api/v1/namespaces/default/pods")["items"]
        found = [i["metadata"] for i in items if i["metadata"]["name"] == name]
        return bool(found) and "deletionTimestamp" not in found[0]

    eventually(there)
