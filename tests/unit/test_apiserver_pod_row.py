"""STATUS, READY and RESTARTS as kubectl shows them (printPod), one row per state of a pod."""

import pytest

from minipod.apiserver.pod_row import readiness_gates, summary

RUN = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def wait(reason):
    return {"waiting": {"reason": reason}}


def end(code=0, reason="", signal=0):
    return {"terminated": {"exitCode": code, "reason": reason, "signal": signal}}


def status(name, state, *, ready=False, started=False, restarts=0, finished=""):
    last = {"terminated": {"finishedAt": finished}} if finished else {}
    return {
        "name": name, "state": state, "ready": ready, "started": started,
        "restartCount": restarts, "lastState": last,
    }  # fmt: skip


UP = status("a", RUN, ready=True, started=True)
TRUE = {"type": "Ready", "status": "True"}
DONE = {"type": "Initialized", "status": "True"}


def pod(*apps, init=(), sidecars=(), deleted=False, **more):
    names = [s["name"] for s in init]
    return {
        "metadata": {"name": "p", **({"deletionTimestamp": "x"} if deleted else {})},
        "spec": {
            "containers": [{"name": s["name"]} for s in apps] or [{"name": "a"}],
            "initContainers": [
                {"name": n, **({"restartPolicy": "Always"} if n in sidecars else {})} for n in names
            ],
            **more.pop("spec", {}),
        },
        "status": {
            "phase": "Running", "containerStatuses": list(apps),
            "initContainerStatuses": list(init), **more,
        },
    }  # fmt: skip


INIT_DONE = status("i", end(0, "Completed"), ready=True)
PENDING = status("a", wait("PodInitializing"))


@pytest.mark.parametrize(
    ("subject", "shown", "ready"),
    [
        pytest.param(pod(UP), "Running", "1/1", id="running"),
        pytest.param(pod(phase="Pending"), "Pending", "0/1", id="pending"),
        pytest.param(
            pod(status("a", wait("CrashLoopBackOff"))), "CrashLoopBackOff", "0/1", id="loop"
        ),
        pytest.param(pod(status("a", end(0, "Completed"))), "Completed", "0/1", id="completed"),
        pytest.param(pod(status("a", end(137, "OOMKilled"))), "OOMKilled", "0/1", id="oom"),
        pytest.param(pod(status("a", end(3))), "ExitCode:3", "0/1", id="exit-code"),
        pytest.param(pod(status("a", end(0, "", 9))), "Signal:9", "0/1", id="signal"),
        pytest.param(
            pod(UP, status("b", end(0, "Completed")), conditions=[TRUE]),
            "Running", "1/2", id="one-completed-ready",
        ),
        pytest.param(
            pod(UP, status("b", end(0, "Completed"))), "NotReady", "1/2", id="one-completed",
        ),
        pytest.param(
            pod(PENDING, init=[status("i", RUN)]), "Init:0/1", "0/1", id="init-0-of-1",
        ),
        pytest.param(
            pod(PENDING, init=[INIT_DONE, status("j", RUN)]), "Init:1/2", "0/1", id="init-1-of-2",
        ),
        pytest.param(
            pod(PENDING, init=[status("i", wait("CrashLoopBackOff"))]),
            "Init:CrashLoopBackOff", "0/1", id="init-loop",
        ),
        pytest.param(
            pod(PENDING, init=[status("i", end(1, "Error"))]), "Init:Error", "0/1", id="init-error",
        ),
        pytest.param(
            pod(PENDING, init=[status("i", end(2))]), "Init:ExitCode:2", "0/1", id="init-code",
        ),
        pytest.param(
            pod(PENDING, init=[status("i", end(0, "", 9) | {})]), "PodInitializing", "0/1",
            id="init-exit-zero-by-signal",
        ),
        pytest.param(
            pod(UP, init=[status("s", RUN, ready=True, started=True)], sidecars=["s"]),
            "Running", "2/2", id="sidecar-counts",
        ),
        pytest.param(
            pod(PENDING, init=[status("s", RUN)], sidecars=["s"]), "Init:0/1", "0/2",
            id="sidecar-not-started",
        ),
        pytest.param(
            pod(UP, init=[status("s", wait("CrashLoopBackOff"))], sidecars=["s"], conditions=[DONE]),
            "Init:CrashLoopBackOff", "1/2", id="sidecar-loops-beside-running-apps",
        ),
        pytest.param(pod(UP, deleted=True), "Terminating", "1/1", id="terminating"),
        pytest.param(
            pod(status("a", end(0, "Completed")), deleted=True, phase="Succeeded"),
            "Completed", "0/1", id="deleted-after-its-end",
        ),
        pytest.param(
            pod(UP, deleted=True, reason="NodeLost"), "Unknown", "1/1", id="node-lost",
        ),
        pytest.param(
            pod(status("a", end(143, "Error")), reason="DeadlineExceeded", phase="Failed"),
            "Error", "0/1", id="deadline-shows-the-container",
        ),
        pytest.param(
            pod(phase="Pending", conditions=[{"type": "PodScheduled", "reason": "SchedulingGated"}]),
            "SchedulingGated", "0/1", id="gated",
        ),
    ],
)  # fmt: skip
def test_status_and_ready(subject, shown, ready):
    found = summary(subject)
    assert (found.reason, f"{found.ready}/{found.total}") == (shown, ready)


def test_restarts_are_those_of_apps_and_sidecars_once_initialized():
    init = [
        status("i", end(0), restarts=5, finished="2026-01-01T00:00:09Z"),
        status("s", RUN, started=True, restarts=2, finished="2026-01-01T00:00:02Z"),
    ]
    app = status("a", RUN, ready=True, restarts=3, finished="2026-01-01T00:00:03Z")
    found = summary(pod(app, init=init, sidecars=["s"]))
    assert (found.restarts, found.last_restart) == (5, "2026-01-01T00:00:03Z")
    found = summary(pod(PENDING, init=[status("i", RUN, restarts=5)]))
    assert found.restarts == 5


@pytest.mark.parametrize(
    ("conditions", "shown"), [([], "0/2"), ([{"type": "x", "status": "True"}], "1/2")]
)
def test_readiness_gates(conditions, shown):
    gates = {"readinessGates": [{"conditionType": "x"}, {"conditionType": "y"}]}
    assert readiness_gates(pod(UP, spec=gates, conditions=conditions)) == shown
    assert readiness_gates(pod(UP)) == "<none>"
