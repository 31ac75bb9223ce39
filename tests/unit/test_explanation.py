"""`minipod why` as a pure function: states, records and probes in, the chain of causes out. Excluded: the node that tells them."""

import pytest

from minipod.cli.explanation import Facts, age, explain

NOW = 1_767_268_800.0  # 2026-01-01T12:00:00Z


def at(clock: str) -> str:
    return f"2026-01-01T{clock}Z"


def epoch(clock: str) -> float:
    hours, minutes, seconds = (int(n) for n in clock.split(":"))
    return NOW + (hours - 12) * 3600 + minutes * 60 + seconds


def pod(*containers: dict, phase: str = "Running", ready: str = "False", **more) -> dict:
    """A pod of these container statuses, not ready for a minute."""
    named = [{"name": c["name"]} for c in containers]
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": at("11:59:00")}
    status = {
        "phase": phase, "startTime": at("11:58:00"), "conditions": [condition],
        "containerStatuses": list(containers), **more.pop("status", {}),
    }  # fmt: skip
    return {
        "metadata": {"name": "web", "namespace": "default", **more.pop("metadata", {})},
        "spec": {"containers": named, **more}, "status": status,
    }  # fmt: skip


def status(name: str = "app", *, last: dict | None = None, restarts: int = 0, **state) -> dict:
    return {
        "name": name, "state": state, "lastState": {"terminated": last} if last else {},
        "restartCount": restarts, "ready": False, "started": True,
    }  # fmt: skip


def record(
    clock: str, decision: str, *, container: str = "app", rule: str = "r", **because
) -> dict:
    facts = {key.replace("_", " "): value for key, value in because.items()}
    return {
        "at": epoch(clock),
        "decision": decision,
        "container": container,
        "rule": rule,
        "because": facts,
    }


def probe(kind: str = "readiness", **fields) -> dict:
    return {
        "container": "app", "kind": kind, "what": "http-get http://10.0.0.2:80/", "period": 10.0, "threshold": 3,
        "run": 4, "last": "failure", "output": "HTTP probe failed with statuscode: 500",
        "attempted_at": epoch("11:59:55"), "waits_for": "", "result": "failure", **fields,
    }  # fmt: skip


RUNNING = {"startedAt": at("11:58:30")}
ENDED = {
    "exitCode": 137, "reason": "Error", "startedAt": at("11:59:00"), "finishedAt": at("11:59:30"),
}  # fmt: skip
KILLED = (
    record("11:59:20", "liveness is failure", output="HTTP probe failed with statuscode: 503"),
    record("11:59:21", "kill", cause="liveness", message="Container app failed liveness probe, will be restarted"),
    record("11:59:30", "back off", delay="40 s", until=at("12:00:10")),
)  # fmt: skip
NOT_PULLED = (
    record("11:59:50", "ErrImagePull", message='failed to pull image "docker.io/library/x:1": registry: name or service not known'),
    record("11:59:51", "ImagePullBackOff", message='Back-off pulling image "x:1"'),
)  # fmt: skip
CASES = [
    pytest.param(
        Facts(
            pod=pod(
                status(
                    waiting={
                        "reason": "ImagePullBackOff",
                        "message": 'Back-off pulling image "x:1"',
                    }
                ),
                phase="Pending",
            ),
            records=NOT_PULLED,
        ),
        [
            "pod default/web is pending, for 2m",
            '  container app waits: ImagePullBackOff: Back-off pulling image "x:1"',
            (
                '    because at 11:59:50 it failed to pull image "docker.io/library/x:1": registry: name or service not'
                " known"
            ),
            (
                "  images that are here: minipod image ls; minipod image build makes the built-in ones, minipod image load"
                " takes archives"
            ),
        ],
        id="image-not-pulled",
    ),
    pytest.param(
        Facts(pod=pod({**status(running=RUNNING), "ready": True}, ready="True")),
        ["pod default/web is ready, for 1m"],
        id="ready",
    ),
    pytest.param(
        Facts(pod=pod(status(running=RUNNING)), probes=[probe()]),
        [
            "pod default/web is running, not ready, for 1m",
            "  container app runs since 11:58:30, and is not ready",
            (
                "    because its readiness probe (http-get http://10.0.0.2:80/, every 10 s) failed 4 times in a row, the last"
                " time 5s ago (failureThreshold 3)"
            ),
            "      because of: HTTP probe failed with statuscode: 500",
        ],
        id="readiness-fails",
    ),
    pytest.param(
        Facts(
            pod=pod({**status(running=RUNNING), "started": False}),
            probes=[
                probe("startup", attempted_at=0.0, last=None),
                probe(attempted_at=0.0, last=None, waits_for="the startup probe"),
            ],
        ),
        [
            "pod default/web is running, not ready, for 1m",
            "  container app runs since 11:58:30, and is not started",
            "    because its startup probe (http-get http://10.0.0.2:80/, every 10 s) has not run yet",
        ],
        id="startup-to-come",
    ),
    pytest.param(
        Facts(
            pod=pod(status(waiting={"reason": "CrashLoopBackOff"}, last=ENDED, restarts=3)),
            records=KILLED,
        ),
        [
            "pod default/web is running, not ready, for 1m",
            "  container app waits: CrashLoopBackOff, 40 s; it starts again at 12:00:10 (in 10s)",
            "    because it ended with exit code 137 (Error) at 11:59:30, 30s after its start; 3 restarts",
            "      because it was killed at 11:59:21: Container app failed liveness probe, will be restarted",
            "        because its liveness probe failed at 11:59:20: HTTP probe failed with statuscode: 503",
        ],
        id="crash-loop-by-liveness",
    ),
    pytest.param(
        Facts(
            pod=pod(
                {
                    **status(running={"startedAt": at("11:59:31")}, last=ENDED, restarts=1),
                    "ready": True,
                },
                ready="True",
            ),
            records=KILLED[:2],
        ),
        [
            "pod default/web is ready, for 1m",
            "  container app is ready, and runs since 11:59:31 (29s)",
            "    because it ended with exit code 137 (Error) at 11:59:30, 30s after its start; 1 restart",
            "      because it was killed at 11:59:21: Container app failed liveness probe, will be restarted",
            "        because its liveness probe failed at 11:59:20: HTTP probe failed with statuscode: 503",
        ],
        id="restarted-and-ready",
    ),
    pytest.param(
        Facts(
            pod=pod(
                status(
                    waiting={"reason": "CrashLoopBackOff"},
                    last={**ENDED, "message": "no\ndatabase"},
                ),
                phase="Pending",
            )
        ),
        [
            "pod default/web is pending, for 2m",
            "  container app waits: CrashLoopBackOff",
            "    because it ended with exit code 137 (Error) at 11:59:30, 30s after its start: no database",
        ],
        id="crash-loop-without-journal",
    ),
    pytest.param(
        Facts(
            pod=pod(
                status(waiting={"reason": "ErrImagePull", "message": "no such image"}),
                phase="Pending",
            )
        ),
        [
            "pod default/web is pending, for 2m",
            "  container app waits: ErrImagePull: no such image",
        ],
        id="image",
    ),
    pytest.param(
        Facts(
            pod=pod(
                status(waiting={"reason": "PodInitializing"}),
                phase="Pending",
                initContainers=[{"name": "first"}, {"name": "second"}],
                status={
                    "initContainerStatuses": [
                        status("first", terminated={"exitCode": 0}),
                        status("second", waiting={"reason": "ErrImageNeverPull"}),
                    ]
                },
            )
        ),
        ["pod default/web is pending, for 2m", "  init container second waits: ErrImageNeverPull"],
        id="init-container",
    ),
    pytest.param(
        Facts(
            pod=pod(phase="Pending"),
            records=[
                record(
                    "11:59:30",
                    "FailedMount",
                    container="",
                    rule="sync.PodSync",
                    message='configmap "x" not found',
                )
            ],
        ),
        [
            "pod default/web is pending, for 2m",
            '  FailedMount at 11:59:30 (30s ago): configmap "x" not found',
        ],
        id="mount",
    ),
    pytest.param(
        Facts(
            pod=pod(
                status(terminated=ENDED),
                phase="Failed",
                status={"reason": "DeadlineExceeded", "message": "Pod was active"},
            )
        ),
        [
            "pod default/web has failed: DeadlineExceeded: Pod was active",
            "  container app ended with exit code 137 (Error) at 11:59:30, 30s after its start",
        ],
        id="deadline",
    ),
    pytest.param(
        Facts(
            pod=pod(
                {**status(running=RUNNING), "ready": True},
                readinessGates=[{"conditionType": "shop/up"}, {"conditionType": "shop/warm"}],
                status={
                    "conditions": [
                        {"type": "Ready", "status": "False"},
                        {"type": "shop/warm", "status": "False", "reason": "Cold"},
                    ]
                },
            )
        ),
        [
            "pod default/web is running, not ready",
            "  readiness gate shop/up does not exist",
            "  readiness gate shop/warm is False: Cold",
        ],
        id="gates",
    ),
    pytest.param(
        Facts(
            pod=pod(
                status(running=RUNNING),
                metadata={"deletionTimestamp": at("12:00:20"), "deletionGracePeriodSeconds": 30},
            ),
            records=[record("11:59:50", "terminate", container="", grace_period="30 s")],
        ),
        [
            "pod default/web is being deleted, for 10s",
            "  it is being stopped since 11:59:50, grace period 30 s",
            "  container app runs since 11:58:30, and is not ready",
        ],
        id="deleted",
    ),
    pytest.param(
        Facts(pod={"metadata": {"name": "web"}, "spec": {"containers": [{"name": "app"}]}}),
        ["pod default/web is pending", "  the node has not looked at it yet"],
        id="new",
    ),
]


@pytest.mark.parametrize(("facts", "lines"), CASES)
def test_the_chain_of_causes(facts, lines):
    told = explain(facts, NOW)
    chain = told[: told.index("decisions, newest last:")] if facts.records else told
    assert chain == lines


def test_the_newest_decisions_end_the_screen():
    records = [record(f"11:59:{n:02}", f"number {n}", delay="1 s") for n in range(30)]
    lines = explain(Facts(pod=pod(status(running=RUNNING)), records=records), NOW)
    assert lines[-1] == "  11:59:29  app: number 29 (delay: 1 s) [r]"
    assert len(lines) < 24


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (95, "1m35s"),
        (3600, "1h"),
        (7380, "2h3m"),
        (90000, "1d1h"),
    ],
)
def test_age(seconds, text):
    assert age(seconds) == text
