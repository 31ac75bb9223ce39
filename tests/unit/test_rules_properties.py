"""What every decision keeps to, whatever is observed (also what can't be): random pods and random sights of them."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from minipod.kubelet.rules import restart
from minipod.kubelet.rules.actions import compute
from minipod.kubelet.rules.hashing import spec_hash
from minipod.kubelet.rules.observed import Backoff, Instance, Observed, ProbeResults, Sandbox, State
from minipod.kubelet.rules.phase import TERMINAL, get_phase, sticky_phase
from minipod.kubelet.rules.pods import Pod, compile_pod
from minipod.kubelet.rules.probe import ProbeResult
from minipod.kubelet.rules.status import Known, Running, app_statuses, init_statuses

PROBE = {"exec": {"command": ["x"]}}
NOW = 10_000.0


@st.composite
def containers(draw, name: str, *, init: bool):
    made = {"name": name, "image": "i:1"}
    if policy := draw(st.sampled_from(["", "", "Always", "OnFailure", "Never"])):
        made["restartPolicy"] = policy
        if draw(st.booleans()) and not (init and policy == "Always"):
            action = draw(st.sampled_from(["Restart", "RestartAllContainers"]))
            codes = {"operator": draw(st.sampled_from(["In", "NotIn"])), "values": [3]}
            made["restartPolicyRules"] = [{"action": action, "exitCodes": codes}]
    if not init or made.get("restartPolicy") == "Always":
        for kind in ("livenessProbe", "startupProbe", "readinessProbe"):
            if draw(st.booleans()):
                made[kind] = PROBE
    return made


@st.composite
def pods(draw) -> Pod:
    spec = {
        "restartPolicy": draw(st.sampled_from(["Always", "OnFailure", "Never"])),
        "initContainers": [draw(containers(f"i{n}", init=True)) for n in range(draw(st.integers(0, 3)))],
        "containers": [draw(containers(f"a{n}", init=False)) for n in range(draw(st.integers(1, 2)))],
        "ephemeralContainers": [{"name": "e", "image": "i:1"}] if draw(st.booleans()) else [],
    }  # fmt: skip
    phase = draw(st.sampled_from(["", "Pending", "Running", "Running", "Succeeded", "Failed"]))
    pod = compile_pod(
        {"metadata": {"name": "p", "uid": "u"}, "spec": spec, "status": {"phase": phase}}
    )
    return replace(pod, deletion_timestamp=NOW) if draw(st.integers(0, 5)) == 0 else pod


@st.composite
def sights(draw, pod: Pod) -> Observed:
    count = draw(st.integers(0, 2))
    sandboxes = tuple(
        Sandbox(id=f"s{n}", attempt=n, ready=draw(st.booleans()), ips=("10.0.0.1",))
        for n in reversed(range(count))
    )
    found = []
    for container in pod.all_containers if sandboxes else ():
        for _ in range(draw(st.integers(0, 2))):
            state = draw(st.sampled_from(list(State)))
            started = draw(st.floats(1, NOW))
            found.append(
                Instance(
                    name=container.name, id=f"c{len(found)}", state=state,
                    sandbox_id=draw(st.sampled_from([s.id for s in sandboxes])),
                    spec_hash=draw(st.sampled_from([spec_hash(container), "other"])),
                    exit_code=draw(st.sampled_from([0, 1, 3, 137])),
                    created_at=started, started_at=started,
                    finished_at=draw(st.floats(started, NOW)),
                    backoff=draw(st.sampled_from([None, Backoff(delay=300, decided_at=NOW - 400)])),
                )
            )  # fmt: skip
    # Newest first; what was made in an older sandbox is older, also when the clock says the same.
    age = {s.id: s.attempt for s in sandboxes}
    found.sort(key=lambda i: (age[i.sandbox_id], i.created_at), reverse=True)
    return Observed(sandboxes=sandboxes, containers=tuple(found))


@st.composite
def scenes(draw):
    pod = draw(pods())
    observed = draw(sights(pod))
    results = st.dictionaries(
        st.sampled_from([c.id for c in observed.containers] or ["none"]),
        st.sampled_from(list(ProbeResult)),
    )
    return (
        pod,
        observed,
        ProbeResults(**{k: draw(results) for k in ("readiness", "liveness", "startup")}),
    )


def initialized(pod: Pod, observed: Observed) -> bool:
    """Every regular init container has succeeded in the sandbox and this round, or an app was made there."""
    assert observed.sandbox is not None
    sandbox, now = observed.sandbox.id, observed.since(restart.round_began(pod, observed))
    if any(now.newest(c.name, sandbox) for c in pod.containers):
        return True
    regular = [c for c in pod.init_containers if not c.is_sidecar]
    # A later init container that is known proves the earlier ones, whose records may have been pruned.
    known = [c for c in pod.init_containers if now.newest(c.name, sandbox)]
    if regular and not known:
        return False
    behind = pod.init_containers.index(known[-1]) if known else 0
    return all(
        (i := now.newest(c.name, sandbox)) is not None and i.succeeded
        for c in regular
        if pod.init_containers.index(c) >= behind
    )


@settings(max_examples=400, deadline=None)
@given(scenes())
def test_decisions_keep_to_the_rules(scene):
    pod, observed, probes = scene
    actions = compute(pod, observed, probes, NOW)
    starts = (*actions.start_init, *actions.start, *actions.start_ephemeral)
    if pod.deleting or pod.status["phase"] in TERMINAL:
        assert actions.kill_pod
        assert not starts
        assert not actions.create_sandbox
    if actions.kill_pod and not actions.create_sandbox:
        assert not starts
    if actions.start and not actions.create_sandbox:
        assert initialized(pod, observed)
    if actions.create_sandbox and pod.init_containers:
        assert not starts
    assert len({c.name for c in starts}) == len(starts)
    waits = {w.container.name for w in actions.backing_off}
    assert not waits & {c.name for c in starts}
    assert all(w.until > NOW for w in actions.backing_off)
    if waits:
        assert actions.wake_at is not None
    if not actions.create_sandbox:
        running = {i.name for i in observed.containers if i.state is State.RUNNING}
        killed = {k.container.name for k in actions.kill}
        newest = {
            c.name for c in starts if (i := observed.newest(c.name)) and i.state is State.RUNNING
        }
        assert newest & running <= killed  # what runs is never started again


@settings(max_examples=200, deadline=None)
@given(scenes())
def test_statuses_and_phase_agree_with_what_is_seen(scene):
    pod, observed, probes = scene
    known = Known(observed=observed, probes=probes)
    init, apps = init_statuses(pod, known), app_statuses(pod, known)
    for status in (*init, *apps):
        newest = observed.newest(status.name)
        runs = newest is not None and newest.state is State.RUNNING
        assert isinstance(status.state, Running) is runs
        if status.ready and status in apps:
            assert runs
    phase = get_phase(pod, (*init, *apps))
    assert sticky_phase(pod.status["phase"], phase) == (
        pod.status["phase"] if pod.status["phase"] in TERMINAL else phase
    )
    if any(isinstance(s.state, Running) for s in apps):
        assert phase != "Succeeded"
