"""The kubelet's rules by tables: phase, restart, actions, conditions."""

from dataclasses import replace

import pytest

from minipod.kubelet.rules import conditions, restart
from minipod.kubelet.rules.actions import compute
from minipod.kubelet.rules.hashing import fnv32a, spec_hash
from minipod.kubelet.rules.observed import (
    Backoff,
    Instance,
    Observed,
    ProbeResults,
    Sandbox,
    State,
)
from minipod.kubelet.rules.phase import get_phase, sticky_phase
from minipod.kubelet.rules.pods import compile_pod, default_pull_policy, recompile_pod
from minipod.kubelet.rules.probe import ProbeResult
from minipod.kubelet.rules.render import container_status, parse_status
from minipod.kubelet.rules.status import (
    ContainerStatus,
    Known,
    Running,
    Terminated,
    Waiting,
    app_statuses,
)
from tests.pods import pod

RUN = Running(started_at=1.0)
WAIT = Waiting(reason="ContainerCreating")


def ended(code: int = 0) -> Terminated:
    return Terminated(exit_code=code, reason="Error" if code else "Completed")


def statuses(*states, init=()):
    named = [(f"i{n}", s) for n, s in enumerate(init)] + [
        (f"a{n}", s) for n, s in enumerate(states)
    ]
    out = []
    for name, pair in named:
        state, last = pair if isinstance(pair, tuple) else (pair, None)
        out.append(ContainerStatus(name=name, state=state, last=last))
    return out


LOOP = (Waiting(reason="CrashLoopBackOff"), ended(1))


@pytest.mark.parametrize(
    ("policy", "apps", "init", "expected"),
    [
        pytest.param("Always", [RUN], [], "Running", id="running"),
        pytest.param("Always", [WAIT], [], "Pending", id="waiting"),
        pytest.param("Always", [RUN, WAIT], [], "Pending", id="one-waiting"),
        pytest.param("Always", [RUN, ended(1)], [], "Running", id="one-ended"),
        pytest.param("Always", [ended(0)], [], "Running", id="always-ended"),
        pytest.param("Always", [LOOP], [], "Running", id="crash-loop"),
        pytest.param("OnFailure", [ended(0), ended(0)], [], "Succeeded", id="all-good"),
        pytest.param("OnFailure", [ended(0), ended(1)], [], "Running", id="onfailure-one-bad"),
        pytest.param("Never", [ended(0), ended(1)], [], "Failed", id="never-one-bad"),
        pytest.param("Never", [ended(0)], [], "Succeeded", id="never-good"),
        pytest.param("Never", [WAIT], [ended(1)], "Failed", id="init-failed-never"),
        pytest.param("Always", [WAIT], [LOOP], "Pending", id="init-loops"),
        pytest.param("Always", [RUN], [RUN], "Pending", id="init-running"),
        pytest.param("Always", [RUN], [ended(0)], "Running", id="init-done"),
        pytest.param("Always", [], [], "Pending", id="nothing-known"),
    ],
)
def test_phase(policy, apps, init, expected):
    subject = pod(policy, init=len(init), apps=max(1, len(apps)))
    assert get_phase(subject, statuses(*apps, init=init)) == expected


@pytest.mark.parametrize("terminal", ["Succeeded", "Failed"])
def test_a_terminal_phase_is_sticky(terminal):
    assert sticky_phase(terminal, "Running") == terminal
    assert sticky_phase("Running", terminal) == terminal


@pytest.mark.parametrize(
    ("policy", "state", "code", "init", "expected"),
    [
        pytest.param("Always", State.EXITED, 0, False, True, id="always"),
        pytest.param("OnFailure", State.EXITED, 0, False, False, id="onfailure-good"),
        pytest.param("OnFailure", State.EXITED, 1, False, True, id="onfailure-bad"),
        pytest.param("Never", State.EXITED, 1, False, False, id="never"),
        pytest.param("Always", State.EXITED, 0, True, False, id="init-always-good"),
        pytest.param("Always", State.EXITED, 1, True, True, id="init-always-bad"),
        pytest.param("Always", State.RUNNING, 0, False, False, id="running"),
        pytest.param("Never", State.UNKNOWN, 0, False, True, id="unknown"),
        pytest.param("Never", State.CREATED, 0, False, True, id="created"),
    ],
)
def test_should_restart(policy, state, code, init, expected):
    subject = pod(policy, init=1)
    container = subject.init_containers[0] if init else subject.containers[0]
    seen = Instance(name="a", id="c", state=state, exit_code=code)
    assert restart.should_restart(subject, container, seen) is expected
    deleted = replace(subject, deletion_timestamp=1.0)
    assert restart.should_restart(deleted, container, seen) is False


def test_crash_loop_delays_double_to_five_minutes():
    now, entry, delays = 1000.0, None, []
    for _ in range(8):
        until = restart.backing_off_until(entry, now, now)
        delays.append(0 if until is None else until - now)
        now += delays[-1]
        entry = restart.next_entry(entry, now - delays[-1], now)
        now += 1
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300]


def test_ten_minutes_of_running_forget_the_backoff():
    entry = Backoff(delay=160, decided_at=0)
    assert restart.backing_off_until(entry, 601, 601) is None
    assert restart.backing_off_until(entry, 599, 599) == 759
    assert restart.next_entry(entry, 601, 601).delay == 10


def test_a_changed_hash_forgets_the_backoff():
    instance = Instance(
        name="a", id="c", state=State.EXITED, spec_hash="x", backoff=Backoff(delay=80, decided_at=0)
    )
    assert restart.entry_of(instance, "x") is not None
    assert restart.entry_of(instance, "y") is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(10, "10s"), (80, "1m20s"), (160, "2m40s"), (300, "5m0s")]
)
def test_durations_read_as_in_go(seconds, text):
    assert restart.duration(seconds) == text


SANDBOX = Sandbox(id="s", ips=("10.0.0.1",))


def instance(name, state, code=0, *, sandbox="s", subject=None, **fields):
    container = next(c for c in (subject or pod(init=2, apps=2)).all_containers if c.name == name)
    return Instance(
        name=name,
        id=f"id-{name}",
        sandbox_id=sandbox,
        state=state,
        exit_code=code,
        spec_hash=spec_hash(container),
        **{"started_at": 1.0, **fields},
    )


def decide(subject, *containers, sandboxes=(SANDBOX,), now=100.0, **probes):
    observed = Observed(sandboxes=sandboxes, containers=containers)
    return compute(subject, observed, ProbeResults(**probes), now)


def names(containers):
    return [c.name for c in containers]


class TestActions:
    def test_no_sandbox_makes_one(self):
        actions = decide(pod(), sandboxes=())
        assert (actions.create_sandbox, actions.attempt, actions.kill_pod) == (True, 0, False)

    def test_a_sandbox_that_is_not_ready_is_replaced_with_the_next_attempt(self):
        lost = Sandbox(id="s", attempt=3, ready=False)
        actions = decide(pod(), sandboxes=(lost,))
        assert (actions.create_sandbox, actions.attempt, actions.kill_pod) == (True, 4, True)

    @pytest.mark.parametrize(
        "sandboxes",
        [
            pytest.param((Sandbox(id="s", ips=()),), id="no-address"),
            pytest.param((SANDBOX, Sandbox(id="t", ips=("1",))), id="two-ready"),
            pytest.param((Sandbox(id="s", ips=("1",), host_network=True),), id="network-mode"),
        ],
    )
    def test_a_changed_sandbox_is_replaced(self, sandboxes):
        assert decide(pod(), sandboxes=sandboxes).create_sandbox

    @pytest.mark.parametrize(
        ("policy", "code", "again"),
        [("Never", 1, False), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Always", 0, True)],
    )
    def test_a_lost_sandbox_comes_back_only_if_something_is_left_to_run(self, policy, code, again):
        lost = Sandbox(id="s", ready=False)
        subject = pod(policy)
        actions = decide(
            subject, instance("a0", State.EXITED, code, subject=subject), sandboxes=(lost,)
        )
        assert actions.create_sandbox is again

    def test_init_containers_go_one_by_one(self):
        subject = pod(init=2)
        assert names(decide(subject).start_init) == ["i0"]
        first = instance("i0", State.RUNNING)
        assert decide(subject, first).start_init == ()
        first = instance("i0", State.EXITED)
        assert names(decide(subject, first).start_init) == ["i1"]
        both = (instance("i1", State.EXITED), first)
        assert names(decide(subject, *both).start) == ["a0"]

    def test_a_failed_init_container_ends_a_never_pod(self):
        failed = instance("i0", State.EXITED, 1)
        assert decide(pod("Never", init=1), failed).kill_pod
        assert names(decide(pod("Always", init=1), failed).start_init) == ["i0"]

    def test_an_app_container_that_ran_here_proves_initialization(self):
        actions = decide(pod(init=1), instance("a0", State.RUNNING))
        assert (actions.start_init, actions.start, actions.kill_pod) == ((), (), False)

    def test_liveness_failure_kills_and_restarts(self):
        raw = {"name": "a0", "image": "x", "livenessProbe": {"exec": {"command": ["x"]}}}
        subject = pod(containers=[raw])
        one = instance("a0", State.RUNNING, subject=subject)
        actions = decide(subject, one, liveness={one.id: ProbeResult.FAILURE})
        assert [k.message for k in actions.kill] == [
            "Container a0 failed liveness probe, will be restarted"
        ]
        assert names(actions.start) == ["a0"]

    def test_a_changed_image_restarts_whatever_the_policy(self):
        old = instance("a0", State.RUNNING)
        changed = pod("Never", containers=[{"name": "a0", "image": "new"}])
        actions = decide(changed, old)
        assert [k.cause for k in actions.kill] == ["changed"]
        assert names(actions.start) == ["a0"]

    def test_a_backoff_says_when_to_look_again(self):
        waits = instance(
            "a0", State.EXITED, 1, finished_at=95.0, backoff=Backoff(delay=10, decided_at=90)
        )
        actions = decide(pod(), waits)
        assert (actions.start, actions.wake_at) == ((), 105.0)
        assert [b.container.name for b in actions.backing_off] == ["a0"]

    def test_nothing_to_keep_and_nothing_to_start_ends_the_pod(self):
        assert decide(pod("Never"), instance("a0", State.EXITED, 0)).kill_pod


def test_states_of_a_container_in_a_crash_loop():
    subject = pod()
    seen = (
        instance("a0", State.EXITED, 2, restart_count=4, finished_at=5.0),
        instance("a0", State.EXITED, 1, restart_count=3),
    )
    known = Known(
        observed=Observed(containers=seen), reasons={"a0": Waiting(reason="CrashLoopBackOff")}
    )
    (status,) = app_statuses(subject, known)
    assert status.state == Waiting(reason="CrashLoopBackOff")
    assert status.last is not None
    assert (status.last.exit_code, status.restart_count) == (2, 4)
    assert parse_status(container_status(status)) == status


def test_an_instance_that_nobody_knows_is_137():
    known = Known(observed=Observed(containers=(instance("a0", State.UNKNOWN),)))
    (status,) = app_statuses(pod(), known)
    assert isinstance(status.state, Terminated)
    assert (status.state.reason, status.state.exit_code) == ("ContainerStatusUnknown", 137)


def by_type(found):
    return {c.type: c for c in found}


def test_conditions_of_a_pod_that_is_not_ready():
    subject = pod(init=1, apps=2, readinessGates=[{"conditionType": "x"}])
    found = by_type(
        conditions.conditions(
            subject, "Pending", statuses(init=[RUN]), statuses(WAIT, WAIT), sandbox_ready=True
        )
    )
    assert found["Initialized"].message == "containers with incomplete status: [i0]"
    assert found["Initialized"].reason == "ContainersNotInitialized"
    assert found["Ready"].message == "containers with unready status: [a0 a1]"
    assert found["PodScheduled"].status
    assert found["PodReadyToStartContainers"].status


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ([], 'corresponding condition of pod readiness gate "x" does not exist.'),
        (
            [{"type": "x", "status": "False"}],
            'the status of pod readiness gate "x" is not "True", but False',
        ),
    ],
)
def test_readiness_gates(stored, message):
    raw = pod(readinessGates=[{"conditionType": "x"}]).raw
    subject = compile_pod({**raw, "status": {"conditions": stored}})
    ready = [ContainerStatus(name="a0", state=RUN, ready=True)]
    found = by_type(conditions.conditions(subject, "Running", (), ready, sandbox_ready=True))
    assert (found["Ready"].reason, found["Ready"].message) == ("ReadinessGatesNotReady", message)


def test_transition_time_moves_only_with_the_status():
    same = conditions.Condition(type="Ready", status=True)
    old = [{"type": "Ready", "status": "True", "lastTransitionTime": "then"}]
    assert conditions.merge(old, [same], "now")[0]["lastTransitionTime"] == "then"
    other = conditions.Condition(type="Ready", status=False)
    assert conditions.merge(old, [other], "now")[0]["lastTransitionTime"] == "now"


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("host:5000/busybox", "Always"),
        ("busybox:1.36", "IfNotPresent"),
        ("busybox@sha256:00", "IfNotPresent"),
    ],
)
def test_default_pull_policy(image, policy):
    assert default_pull_policy(image) == policy


def test_the_hash_is_fnv_32a():
    assert fnv32a(b"foobar") == 0xBF9CF968


def test_a_later_version_of_a_pod_shares_its_spec_and_is_what_compiling_it_anew_gives():
    first = compile_pod(raw_pod({"phase": "Pending"}))
    later = recompile_pod(first, raw_pod({"phase": "Running"}, labels={"a": "b"}, generation=2))
    assert later == compile_pod(raw_pod({"phase": "Running"}, labels={"a": "b"}, generation=2))
    assert later.containers is first.containers
    assert later.raw["spec"] is first.raw["spec"]


def test_a_pod_whose_spec_changed_is_compiled_anew():
    first = compile_pod(raw_pod({}))
    later = recompile_pod(first, raw_pod({}, image="i:2"))
    assert later.containers[0].image == "i:2"


def raw_pod(status, image="i:1", **metadata):
    containers = [{"name": "c", "image": image, "env": [{"name": "A", "value": "B"}]}]
    return {
        "metadata": {"name": "p", "uid": "u", "namespace": "n", **metadata},
        "spec": {"containers": containers, "nodeName": "here"},
        "status": status,
    }
