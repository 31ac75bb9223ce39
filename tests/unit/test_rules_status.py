"""The last word of statuses, the limits of messages, conditions without statuses, and the names of signals."""

import signal

import pytest

from minipod.errors import InvalidSpec
from minipod.kubelet.rules import conditions
from minipod.kubelet.rules.pods import compile_pod
from minipod.kubelet.rules.status import (
    ContainerStatus,
    Running,
    Terminated,
    Waiting,
    cut_messages,
    ended_statuses,
)
from minipod.runtime.container import signal_number

RUN, WAIT, DONE = (
    Running(started_at=1.0),
    Waiting(reason="PodInitializing"),
    Terminated(exit_code=0),
)
UNKNOWN = "ContainerStatusUnknown"


def told(*states):
    return tuple(ContainerStatus(name=f"c{n}", state=s) for n, s in enumerate(states))


def words(statuses):
    return [
        s.state.reason or "done" if isinstance(s.state, Terminated) else "waits" for s in statuses
    ]


@pytest.mark.parametrize(
    ("init", "apps", "expected"),
    [
        pytest.param((DONE,), (RUN, DONE), (["done"], [UNKNOWN, "done"]), id="an-app-ran"),
        pytest.param((RUN, WAIT), (WAIT,), ([UNKNOWN, "waits"], ["waits"]), id="during-init"),
        pytest.param((WAIT, DONE), (WAIT,), ([UNKNOWN, "done"], ["waits"]), id="a-later-one-ran"),
        pytest.param((WAIT,), (WAIT,), (["waits"], ["waits"]), id="nothing-ran"),
        pytest.param((RUN,), (RUN,), ([UNKNOWN], [UNKNOWN]), id="a-sidecar-ran"),
    ],
)
def test_who_is_not_known_to_have_ended_has_ended_unknown(init, apps, expected):
    found = ended_statuses(told(*init), told(*apps))
    assert (words(found[0]), words(found[1])) == expected


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [("short", 100, "short"), ("x" * 50, 10, "x" * 10), ("ä" * 10, 5, "ää")],
    ids=["fits", "cut", "not-within-a-character"],
)
def test_messages_are_cut_in_bytes(text, limit, expected):
    ended = Terminated(exit_code=1, message=text)
    (status,) = cut_messages((ContainerStatus(name="c", state=ended, last=ended),), limit)
    assert isinstance(status.state, Terminated)
    assert status.last is not None
    assert (status.state.message, status.last.message) == (expected, expected)


@pytest.mark.parametrize(
    ("phase", "kind", "expected"),
    [
        ("Succeeded", "Ready", ("PodCompleted", "")),
        ("Succeeded", "Initialized", ("PodCompleted", "")),
        ("Failed", "ContainersReady", ("PodFailed", "")),
        (
            "Pending", "ContainersReady",
            ("UnknownContainerStatuses", "containers with unknown status: [app]"),
        ),
        (
            "Pending", "Initialized",
            ("UnknownContainerStatuses", "containers with unknown status: [init]"),
        ),
    ],
)  # fmt: skip
def test_conditions_without_statuses(phase, kind, expected):
    spec = {"initContainers": [{"name": "init"}], "containers": [{"name": "app"}]}
    found = conditions.conditions(compile_pod({"spec": spec}), phase, (), (), sandbox_ready=False)
    one = next(c for c in found if c.type == kind)
    assert (one.reason, one.message) == expected


def test_conditions_carry_the_generation_that_they_are_about():
    same = conditions.Condition(type="Ready", status=True)
    (found,) = conditions.merge((), [same], "now", generation=3)
    assert found["observedGeneration"] == 3


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("", signal.SIGTERM), ("SIGUSR1", signal.SIGUSR1), ("usr1", signal.SIGUSR1), ("15", 15),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3), ("SIGRTMAX-2", signal.SIGRTMAX - 2),
    ],
)  # fmt: skip
def test_names_of_signals(name, number):
    assert signal_number(name) == number


@pytest.mark.parametrize("name", ["SIGFOO", "RTMIN+", "a b"])
def test_unknown_signals_are_refused(name):
    with pytest.raises(InvalidSpec, match="unknown signal"):
        signal_number(name)
