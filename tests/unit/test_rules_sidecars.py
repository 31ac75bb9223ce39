"""Sidecars, container restart policies and rules, tuned backoff: the decisions and what statuses say."""

import pytest

from minipod.kubelet.rules import conditions, qos, restart
from minipod.kubelet.rules.actions import compute
from minipod.kubelet.rules.hashing import spec_hash
from minipod.kubelet.rules.observed import Backoff, Instance, Observed, ProbeResults, Sandbox, State
from minipod.kubelet.rules.phase import final_phase, get_phase
from minipod.kubelet.rules.pods import compile_pod
from minipod.kubelet.rules.probe import ProbeResult
from minipod.kubelet.rules.status import (
    ContainerStatus,
    Known,
    Running,
    Terminated,
    Waiting,
    app_statuses,
    init_statuses,
)

SANDBOX = Sandbox(id="s", ips=("10.0.0.1",))
PROBE = {"exec": {"command": ["x"]}}
STARTUP = {"startupProbe": PROBE}


def plain(name, **fields):
    return {"name": name, "image": "i:1", **fields}


def sidecar(name="side", **fields):
    return plain(name, restartPolicy="Always", **fields)


def make(*inits, apps=None, policy="Always", **spec):
    return compile_pod(
        {
            "metadata": {"name": "p", "namespace": "n", "uid": "u", **spec.pop("metadata", {})},
            "spec": {
                "restartPolicy": policy,
                "initContainers": list(inits),
                "containers": apps or [plain("app")],
                **spec,
            },
        }
    )


def one(pod, name, state, code=0, **fields):
    container = next(c for c in pod.all_containers if c.name == name)
    return Instance(
        name=name,
        id=f"id-{name}",
        sandbox_id="s",
        state=state,
        exit_code=code,
        spec_hash=spec_hash(container),
        **{"started_at": 1.0, "created_at": 1.0, **fields},
    )


def decide(pod, *instances, now=100.0, **probes):
    observed = Observed(sandboxes=(SANDBOX,), containers=instances)
    return compute(pod, observed, ProbeResults(**probes), now)


def names(containers):
    return [c.name for c in containers]


RUN, EXIT = State.RUNNING, State.EXITED
NEXT = make(sidecar(), plain("init"))


@pytest.mark.parametrize(
    ("pod", "seen", "started", "expected"),
    [
        pytest.param(NEXT, [], {}, ["side"], id="it-starts-first"),
        pytest.param(NEXT, [("side", RUN, 0)], {}, ["init"], id="running-lets-the-next-start"),
        pytest.param(
            make(sidecar(**STARTUP), plain("init")),
            [("side", RUN, 0)], {}, [], id="its-startup-probe-holds-the-next",
        ),
        pytest.param(
            make(sidecar(**STARTUP), plain("init")),
            [("side", RUN, 0)], {"id-side": ProbeResult.SUCCESS}, ["init"], id="until-it-succeeds",
        ),
        pytest.param(
            NEXT, [("side", EXIT, 1), ("init", RUN, 0)], {}, ["side"], id="it-died-during-init",
        ),
        pytest.param(
            NEXT, [("side", EXIT, 0), ("init", EXIT, 0), ("app", RUN, 0)], {}, ["side"],
            id="it-ended-well-and-restarts",
        ),
        pytest.param(
            make(sidecar(), policy="Never"), [("side", EXIT, 1), ("app", RUN, 0)], {}, ["side"],
            id="it-restarts-in-a-never-pod",
        ),
        pytest.param(
            NEXT, [("init", EXIT, 0), ("app", RUN, 0)], {}, ["side"], id="its-record-was-lost",
        ),
    ],
)  # fmt: skip
def test_which_init_containers_start(pod, seen, started, expected):
    actions = decide(pod, *(one(pod, *s) for s in seen), startup=started)
    assert names(actions.start_init) == expected


def test_apps_start_when_the_last_sidecar_has_started():
    pod = make(plain("init"), sidecar(**STARTUP))
    seen = (one(pod, "init", EXIT), one(pod, "side", RUN))
    assert names(decide(pod, *seen).start) == []
    ok = decide(pod, *seen, startup={"id-side": ProbeResult.SUCCESS})
    assert (names(ok.start_init), names(ok.start)) == ([], ["app"])


@pytest.mark.parametrize(("policy", "code"), [("Never", 1), ("Never", 0), ("OnFailure", 0)])
def test_sidecars_do_not_keep_a_pod_alive(policy, code):
    pod = make(sidecar(), policy=policy)
    actions = decide(pod, one(pod, "side", RUN), one(pod, "app", EXIT, code))
    assert (actions.kill_pod, actions.start_init) == (True, ())


@pytest.mark.parametrize("kind", ["liveness", "startup"])
def test_a_sidecar_that_fails_its_probe_is_killed_and_started(kind):
    pod = make(sidecar(**{f"{kind}Probe": PROBE}))
    seen = (one(pod, "side", RUN), one(pod, "app", RUN))
    actions = decide(pod, *seen, **{kind: {"id-side": ProbeResult.FAILURE}})
    assert [k.message for k in actions.kill] == [f"Init container side failed {kind} probe"]
    assert names(actions.start_init) == ["side"]


def test_a_sidecar_backs_off_like_any_container():
    pod = make(sidecar())
    dead = one(pod, "side", EXIT, 1, finished_at=95.0, backoff=Backoff(delay=10, decided_at=94))
    actions = decide(pod, dead, one(pod, "app", RUN))
    assert (actions.start_init, actions.wake_at) == ((), 105.0)


def rules(*pairs, policy="Never"):
    listed = [
        {"action": action, "exitCodes": {"operator": operator, "values": values}}
        for action, operator, values in pairs
    ]
    return {"restartPolicy": policy, "restartPolicyRules": listed}


@pytest.mark.parametrize(
    ("pod_policy", "own", "code", "expected"),
    [
        pytest.param("Always", {"restartPolicy": "Never"}, 1, False, id="own-never"),
        pytest.param("Never", {"restartPolicy": "Always"}, 0, True, id="own-always"),
        pytest.param("Never", {"restartPolicy": "OnFailure"}, 1, True, id="own-onfailure-bad"),
        pytest.param("Always", {"restartPolicy": "OnFailure"}, 0, False, id="own-onfailure-good"),
        pytest.param("Never", rules(("Restart", "In", [42])), 42, True, id="in"),
        pytest.param("Never", rules(("Restart", "In", [42])), 43, False, id="not-in-list"),
        pytest.param("Never", rules(("Restart", "NotIn", [0, 1])), 2, True, id="notin"),
        pytest.param("Never", rules(("Restart", "NotIn", [0, 1])), 1, False, id="notin-listed"),
    ],
)
def test_policies_of_a_container(pod_policy, own, code, expected):
    pod = make(apps=[plain("app", **own)], policy=pod_policy)
    assert restart.restarts_after(pod, pod.containers[0], code) is expected
    status = ContainerStatus(name="app", state=Terminated(exit_code=code))
    ended = "Failed" if code else "Succeeded"
    assert get_phase(pod, [status]) == ("Running" if expected else ended)


def test_restart_all_containers_begins_a_new_round():
    pod = make(
        plain("init"), sidecar(),
        apps=[plain("app", **rules(("RestartAllContainers", "In", [7]))), plain("other")],
        policy="Never",
    )  # fmt: skip
    trigger = one(pod, "app", EXIT, 7, finished_at=50.0)
    seen = [one(pod, "init", EXIT), one(pod, "side", RUN), trigger, one(pod, "other", RUN)]
    first = decide(pod, *seen)
    assert [k.container.name for k in first.kill] == ["side", "other"]
    assert first.start_init == first.start == ()
    stopped = [one(pod, n, EXIT, 137, finished_at=51.0) for n in ("side", "other")]
    second = decide(pod, one(pod, "init", EXIT), trigger, *stopped)
    assert (names(second.start_init), second.start) == (["init"], ())
    again = [
        one(pod, "init", EXIT, created_at=60.0),
        one(pod, "side", RUN, created_at=61.0),
        trigger,
        *stopped,
    ]
    assert names(decide(pod, *again).start) == ["app", "other"]


@pytest.mark.parametrize(
    ("annotations", "delays"),
    [
        pytest.param({}, [10, 20, 40, 80, 160, 300, 300], id="default"),
        pytest.param({"max": "1m"}, [10, 20, 40, 60, 60, 60, 60], id="max"),
        pytest.param({"initial": "500ms", "max": "2s"}, [0.5, 1, 2, 2, 2, 2, 2], id="both"),
        pytest.param({"max": "1s"}, [1, 1, 1, 1, 1, 1, 1], id="max-below-initial"),
    ],
)
def test_a_pod_tunes_its_crash_loop(annotations, delays):
    curve = restart.curve_of({f"minipod.dev/crash-loop-{k}": v for k, v in annotations.items()})
    entry, found = None, []
    for _ in delays:
        entry = restart.next_entry(entry, 0.0, 0.0, curve)
        found.append(entry.delay)
    assert found == delays


RUNNING, WAIT = Running(started_at=1.0), Waiting(reason="PodInitializing")


def shown(name, state, last=None, *, started=False):
    return ContainerStatus(name=name, state=state, last=last, started=started)


@pytest.mark.parametrize(
    ("policy", "side", "app", "expected"),
    [
        pytest.param("Always", (RUNNING, None, True), (RUNNING, None), "Running", id="both-run"),
        pytest.param("Always", (RUNNING, None, False), (WAIT, None), "Pending", id="not-started"),
        pytest.param("Always", (WAIT, None, False), (WAIT, None), "Pending", id="nothing-runs"),
        pytest.param(
            "Always", (RUNNING, None, False), (RUNNING, None), "Running", id="it-restarts-later",
        ),
        pytest.param(
            "Never", (Terminated(exit_code=137), None, False), (Terminated(exit_code=0), None),
            "Succeeded", id="its-exit-code-does-not-count",
        ),
        pytest.param(
            "Never", (RUNNING, None, True), (Terminated(exit_code=0), None), "Running",
            id="until-it-is-stopped",
        ),
        pytest.param(
            "Never", (Terminated(exit_code=0), None, False), (Terminated(exit_code=3), None),
            "Failed", id="app-failed",
        ),
    ],
)  # fmt: skip
def test_phase_with_a_sidecar(policy, side, app, expected):
    pod = make(sidecar(), policy=policy)
    found = [shown("side", side[0], side[1], started=side[2]), shown("app", *app)]
    assert get_phase(pod, found) == expected


def test_the_end_of_a_sidecar_does_not_count_in_the_last_phase():
    pod = make(sidecar(), policy="Always")
    found = [shown("side", Terminated(exit_code=137)), shown("app", Terminated(exit_code=0))]
    assert final_phase(pod, found) == "Succeeded"


def test_readiness_of_a_sidecar_counts_for_the_pod():
    pod = make(sidecar(readinessProbe=PROBE))
    observed = Observed(containers=(one(pod, "side", RUN), one(pod, "app", RUN)))
    for result, ready in ((ProbeResult.FAILURE, False), (ProbeResult.SUCCESS, True)):
        known = Known(observed=observed, probes=ProbeResults(readiness={"id-side": result}))
        init, apps = init_statuses(pod, known), app_statuses(pod, known)
        assert (init[0].started, init[0].ready) == (True, ready)
        found = conditions.conditions(pod, "Running", init, apps, sandbox_ready=True)
        by_type = {c.type: c for c in found}
        assert by_type["Ready"].status is ready
        assert by_type["Initialized"].status
        if not ready:
            assert by_type["Ready"].message == "containers with unready status: [side]"


def test_a_container_that_the_runtime_lost_has_ended_unknown():
    pod = make(apps=[plain("app")])
    old = {"app": ContainerStatus(name="app", state=RUNNING, restart_count=2)}
    (status,) = app_statuses(pod, Known(observed=Observed(), old=old))
    assert isinstance(status.state, Waiting)
    assert status.last is not None
    assert (status.last.reason, status.last.exit_code) == ("ContainerStatusUnknown", 137)
    assert status.restart_count == 3


def test_requests_of_sidecars_add_to_those_beside_them():
    def asks(cpu):
        return {"resources": {"requests": {"cpu": cpu}}}

    pod = make(
        sidecar("s1", **asks("100m")), plain("big", **asks("1")), sidecar("s2", **asks("200m")),
        apps=[plain("app", **asks("500m"))],
    )  # fmt: skip
    assert qos.pod_resources(pod).cpu_shares == qos.shares(1100)
    pod = make(sidecar("s1", **asks("1")), plain("i", **asks("1m")), apps=[plain("a", **asks("2"))])
    assert qos.pod_resources(pod).cpu_shares == qos.shares(3000)


def test_ephemeral_containers_start_once_and_wait_for_nothing():
    pod = make(plain("init"), ephemeralContainers=[plain("debug")])
    assert names(decide(pod, one(pod, "init", RUN)).start_ephemeral) == ["debug"]
    ended = one(pod, "debug", EXIT, 1)
    assert decide(pod, one(pod, "init", RUN), ended).start_ephemeral == ()
