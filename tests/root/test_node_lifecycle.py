"""A pod's life on the real kernel: init containers, restarts, probes, volumes, ends, bad input."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from tests.node import shell, sleeper


def test_init_containers_run_in_order_before_the_app(node, pods) -> None:
    pods.append("init")
    volume = [{"name": "v", "mountPath": "/v"}]
    inits = [
        {"image": "busybox:1.36", **shell(f"echo {n} >> /v/order", f"init{n}", volumeMounts=volume)}
        for n in (1, 2)
    ]
    node.pod(
        "init", shell("cat /v/order; sleep 1000", volumeMounts=volume),
        initContainers=inits, volumes=[{"name": "v", "emptyDir": {}}],
    )  # fmt: skip
    assert node.await_log("init", "2\n", container="app") == "1\n2\n"


@pytest.mark.parametrize(
    ("code", "phase", "reason"), [(0, "Succeeded", "Completed"), (7, "Failed", "Error")]
)
def test_a_pod_that_is_never_restarted_ends_with_its_code(
    node, pods, code: int, phase: str, reason: str
) -> None:
    pods.append("end")
    node.pod(
        "end",
        shell(f"exit {code}"),
        wait=f"jsonpath={{.status.phase}}={phase}",
        restartPolicy="Never",
    )
    assert (
        node.state("end")["terminated"]["exitCode"],
        node.state("end")["terminated"]["reason"],
    ) == (code, reason)


def test_a_failing_container_is_restarted_and_its_first_log_is_previous(node, pods) -> None:
    pods.append("again")
    volume = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    node.pod(
        "again", shell("if [ -e /v/x ]; then echo second; sleep 1000; fi; touch /v/x; echo first; exit 1", **volume),
        wait="jsonpath={.status.containerStatuses[0].restartCount}=1", volumes=[{"name": "v", "emptyDir": {}}],
    )  # fmt: skip
    node.wait("again", "condition=Ready")
    assert node.run("logs", "again", "--previous").stdout == "first\n"


def test_the_log_of_what_has_ended_is_whole_however_far_the_pump_is(node, pods) -> None:
    """As with containerd, which tells of an end when it has written the log."""
    pods.append("said")
    pump = node.status()["pump_pid"]
    os.kill(pump, signal.SIGSTOP)
    try:
        node.pod(
            "said",
            shell("echo last words"),
            wait="jsonpath={.status.phase}=Succeeded",
            restartPolicy="Never",
        )
        with ThreadPoolExecutor(1) as thread:
            asked = thread.submit(node.log, "said")
            with pytest.raises(TimeoutError):
                asked.result(0.5)  # it waits for the pump
            os.kill(pump, signal.SIGCONT)
            assert asked.result(60) == "last words\n"
    finally:
        os.kill(pump, signal.SIGCONT)


def test_the_longest_name_that_a_pod_may_have_runs_and_logs(node, pods) -> None:
    """Its directory of logs can't have it whole: a file's name ends at 255 bytes."""
    name = "n" * 253
    pods.append(name)
    node.pod(name, shell("echo hello; exec sleep 1000"))
    node.await_log(name, "hello\n")
    assert node.run("logs", name).stdout == "hello\n"
    assert node.exec(name, "hostname").strip() == "n" * 63


def test_a_command_that_does_not_exist_is_a_start_error(node, pods) -> None:
    pods.append("nosuch")
    node.pod(
        "nosuch", {"name": "app", "command": ["/no/such"]},
        wait="jsonpath={.status.phase}=Failed", restartPolicy="Never",
    )  # fmt: skip
    ended = node.state("nosuch")["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("StartError", 128)
    assert "no such file or directory" in ended["message"]


def test_sigterm_is_given_its_grace(node, pods) -> None:
    pods.append("term")
    script = "trap 'exit 0' TERM; echo up; while true; do sleep 0.05; done"
    node.pod("term", shell(script), terminationGracePeriodSeconds=1000)
    node.await_log("term", "up")
    # returns when it is gone: a test may not take as long as a SIGKILL
    node.run("delete", "pod", "term")
    assert "not found" in node.run("get", "pod", "term", check=False).stderr


@pytest.mark.smoke
@pytest.mark.parametrize(
    "probe",
    [
        {"exec": {"command": ["test", "-e", "/tmp/ok"]}},
        {"httpGet": {"port": 80, "path": "/ok"}},
        {"tcpSocket": {"port": 80}},
    ],
    ids=["exec", "http", "tcp"],
)
def test_a_pod_is_ready_when_its_probe_says_so(node, pods, probe: dict) -> None:
    pods.append("probed")
    script = "mkdir -p /www; httpd -p 127.0.0.1:81; sleep 1000"
    node.pod(
        "probed",
        shell(script, readinessProbe={**probe, "periodSeconds": 1}),
        wait="jsonpath={.status.phase}=Running",
    )
    ready = next(c for c in node.get("probed")["status"]["conditions"] if c["type"] == "Ready")
    assert ready["status"] == "False"
    # The container has started; whether its script has made the directory yet, nobody knows.
    node.exec("probed", "sh", "-c", "mkdir -p /www; touch /tmp/ok /www/ok; httpd -p 80 -h /www")
    node.wait("probed", "condition=Ready")


def test_a_failing_liveness_probe_restarts_the_container(node, pods) -> None:
    pods.append("alive")
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    node.pod(
        "alive",
        sleeper(livenessProbe=probe),
        wait="jsonpath={.status.containerStatuses[0].restartCount}=1",
    )
    node.await_event("alive", words="failed liveness probe, will be restarted")


def test_run_ends_with_the_pods_code_and_output(node, tmp_path) -> None:
    manifest = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "job"},
        "spec": {"restartPolicy": "Never", "containers": [{"image": "busybox", **shell("echo said; exit 5")}]},
    }  # fmt: skip
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(manifest))
    done = node.run("run", str(path), check=False)
    assert (done.returncode, done.stdout) == (5, "said\n")


def test_a_bad_manifest_is_refused_with_every_path(node) -> None:
    """Fields that Kubernetes does not have come first, all of them; then what is wrong with the others."""
    spec = {"containers": [{"name": "a", "imagee": "x"}], "hostPIDs": True}
    bad = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"}, "spec": spec}
    done = node.run("apply", "-f", "-", text=yaml.safe_dump(bad), check=False)
    assert done.returncode == 1
    assert 'unknown field "spec.containers[0].imagee" (did you mean "image"?)' in done.stderr
    assert 'unknown field "spec.hostPIDs"' in done.stderr
    bad["spec"] = {"containers": [{"name": "a"}], "restartPolicy": "Sometimes"}
    done = node.run("apply", "-f", "-", text=yaml.safe_dump(bad), check=False)
    assert "spec.containers[0].image: Required value" in done.stderr
    assert "spec.restartPolicy: Unsupported value" in done.stderr


def test_an_image_that_is_not_here_waits_with_the_reason(node, pods) -> None:
    pods.append("noimage")
    path = "jsonpath={.status.containerStatuses[0].state.waiting.reason}"
    node.pod(
        "noimage",
        {"name": "app", "image": "nosuch:1", "imagePullPolicy": "Never"},
        wait=f"{path}=ErrImageNeverPull",
    )
    assert node.run("get", "pods").stdout.count("ErrImageNeverPull") == 1


def test_exec_passes_stdin_output_and_code(node, pods) -> None:
    pods.append("ex")
    node.pod("ex", sleeper())
    assert node.run("exec", "-i", "ex", "--", "cat", text="a\n" * 200_000).stdout == "a\n" * 200_000
    done = node.run("exec", "ex", "--", "sh", "-c", "echo out; echo err >&2; exit 9", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 9)
    assert "executable file not found" in node.run("exec", "ex", "--", "nosuch", check=False).stderr
