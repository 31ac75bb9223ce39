"""Probe thresholds as transitions, without time."""

import pytest

from minipod.kubelet.rules.probe import (
    Outcome,
    ProbeKind,
    ProbeResult,
    Thresholds,
    count,
    initial_state,
    may_probe,
    observe,
)

OUTCOMES = {"S": Outcome.SUCCESS, "F": Outcome.FAILURE, "E": Outcome.ERROR, "W": Outcome.WARNING}


@pytest.mark.parametrize(
    ("kind", "outcomes", "result", "held"),
    [
        pytest.param(ProbeKind.READINESS, "S", ProbeResult.SUCCESS, False, id="ready-at-once"),
        pytest.param(ProbeKind.READINESS, "W", ProbeResult.SUCCESS, False, id="warning-is-success"),
        pytest.param(ProbeKind.READINESS, "SFF", ProbeResult.SUCCESS, False, id="below-threshold"),
        pytest.param(ProbeKind.READINESS, "SFFF", ProbeResult.FAILURE, False, id="at-threshold"),
        pytest.param(ProbeKind.READINESS, "SFFSFF", ProbeResult.SUCCESS, False, id="broken-run"),
        pytest.param(ProbeKind.READINESS, "SFFEF", ProbeResult.FAILURE, False, id="error-no-count"),
        pytest.param(ProbeKind.LIVENESS, "", ProbeResult.SUCCESS, False, id="alive-first"),
        pytest.param(ProbeKind.LIVENESS, "FFF", ProbeResult.FAILURE, True, id="liveness-holds"),
        pytest.param(ProbeKind.LIVENESS, "FFFSSS", ProbeResult.FAILURE, True, id="held-stays"),
        pytest.param(ProbeKind.STARTUP, "FF", ProbeResult.UNKNOWN, False, id="startup-unknown"),
        pytest.param(ProbeKind.STARTUP, "FFS", ProbeResult.SUCCESS, False, id="startup-in-time"),
        pytest.param(ProbeKind.STARTUP, "FFF", ProbeResult.FAILURE, True, id="startup-holds"),
    ],
)
def test_counting(kind, outcomes, result, held):
    state = initial_state(kind, "c1")
    for letter in outcomes:
        state = count(kind, Thresholds(), state, OUTCOMES[letter])
    assert (state.result, state.on_hold) == (result, held)


def test_a_new_container_starts_anew_and_releases_the_hold():
    state = initial_state(ProbeKind.LIVENESS, "c1")
    for _ in range(3):
        state = count(ProbeKind.LIVENESS, Thresholds(), state, Outcome.FAILURE)
    state = observe(ProbeKind.LIVENESS, state, container_id="c2", running=True)
    assert state == initial_state(ProbeKind.LIVENESS, "c2")


def test_a_container_that_does_not_run_is_a_failure():
    state = count(
        ProbeKind.READINESS, Thresholds(), initial_state(ProbeKind.READINESS, "c"), Outcome.SUCCESS
    )
    state = observe(ProbeKind.READINESS, state, container_id="c", running=False)
    assert state.result is ProbeResult.FAILURE


@pytest.mark.parametrize("kind", list(ProbeKind))
def test_startup_gate(kind):
    assert may_probe(kind, started=False) is (kind is ProbeKind.STARTUP)
    assert may_probe(kind, started=True) is (kind is not ProbeKind.STARTUP)
