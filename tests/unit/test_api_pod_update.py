"""What may change in a pod that exists, and what validation says of lifecycle fields."""

import copy

import pytest

from minipod.api.fields import FieldErrors
from minipod.api.pod_update import check_ephemeral, check_update
from minipod.api.validation import validate_pod

BASE = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
    "spec": {
        "containers": [{"name": "a", "image": "i:1"}],
        "initContainers": [{"name": "n", "image": "i:1"}],
        "activeDeadlineSeconds": 50, "terminationGracePeriodSeconds": 30,
        "tolerations": [{"key": "x"}],
    },
}  # fmt: skip


def changed(path, value):
    pod = copy.deepcopy(BASE)
    *parents, last = path
    target = pod
    for part in parents:
        target = target.setdefault(part, {}) if isinstance(target, dict) else target[part]
    target[last] = value
    return pod


S = "spec"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param((S, "containers", 0, "image"), "i:2", id="image"),
        pytest.param((S, "initContainers", 0, "image"), "i:2", id="init-image"),
        pytest.param((S, "activeDeadlineSeconds"), 10, id="deadline-shortened"),
        pytest.param((S, "tolerations"), [{"key": "x"}, {"key": "y"}], id="toleration-added"),
        pytest.param(("metadata", "labels"), {"a": "b"}, id="labels"),
        pytest.param(
            ("metadata", "annotations"), {"minipod.dev/crash-loop-max": "20s"}, id="annotation"
        ),
    ],
)
def test_these_may_change(path, value):
    check_update(BASE, changed(path, value))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ((S, "containers", 0, "command"), ["x"], "pod updates may not change fields other than"),
        ((S, "restartPolicy"), "Never", "pod updates may not change fields other than"),
        ((S, "terminationGracePeriodSeconds"), 1, "may not change fields other than"),
        ((S, "activeDeadlineSeconds"), 60, "must be less than or equal to previous value"),
        ((S, "activeDeadlineSeconds"), None, "must not update from a positive integer to nil"),
        ((S, "containers", 0, "image"), "", "spec.containers[0].image: Required value"),
        ((S, "containers"), [], "pod updates may not add or remove containers"),
        ((S, "tolerations"), [], "existing toleration can not be modified"),
        ((S, "ephemeralContainers"), [{"name": "e"}], "may not change fields other than"),
        (("metadata", "annotations"), {"kubernetes.io/config.mirror": "another-pods-uid"}, "only the node says which pods are static"),
        (("metadata", "annotations"), {"kubernetes.io/config.source": "file"}, "only the node says which pods are static"),
        (
            ("metadata", "annotations"), {"minipod.dev/crash-loop-max": "1h"},
            "metadata.annotations[minipod.dev/crash-loop-max]",
        ),
    ],
)  # fmt: skip
def test_these_may_not(path, value, words):
    with pytest.raises(FieldErrors) as caught:
        check_update(BASE, changed(path, value))
    assert words in str(caught.value)


DEBUG = {"name": "debug", "image": "i:1", "targetContainerName": "a"}


def with_ephemeral(*containers):
    return changed((S, "ephemeralContainers"), list(containers))


def test_ephemeral_containers_may_be_added_through_their_subresource():
    check_ephemeral(BASE, with_ephemeral(DEBUG))
    check_ephemeral(with_ephemeral(DEBUG), with_ephemeral(DEBUG, {**DEBUG, "name": "d2"}))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ([DEBUG], [], 'existing ephemeral containers "debug" may not be removed'),
        ([DEBUG], [{**DEBUG, "image": "j"}], 'containers "debug" may not be changed'),
        ([], [{**DEBUG, "name": "a"}], 'spec.ephemeralContainers[0].name: Duplicate value: "a"'),
        ([], [{**DEBUG, "targetContainerName": "z"}], 'Not found: "z"'),
        ([], [{**DEBUG, "lifecycle": {}}], "an ephemeral container has none"),
        ([], [{"name": "debug"}], "spec.ephemeralContainers[0].image: Required value"),
    ],
)
def test_ephemeral_containers_are_checked(old, new, words):
    with pytest.raises(FieldErrors) as caught:
        check_ephemeral(with_ephemeral(*old), with_ephemeral(*new))
    assert words in str(caught.value)


def test_the_subresource_changes_nothing_else():
    wanted = with_ephemeral(DEBUG)
    wanted["spec"]["restartPolicy"] = "Never"
    with pytest.raises(FieldErrors, match="only ephemeral containers"):
        check_ephemeral(BASE, wanted)


RULE = {"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}


@pytest.mark.parametrize(
    ("group", "fields", "words"),
    [
        ("initContainers", {"lifecycle": {}}, "must not be set for init containers without"),
        ("containers", {"restartPolicy": "Sometimes"}, 'Unsupported value: "Sometimes"'),
        ("containers", {"restartPolicyRules": [RULE]}, "must specify restartPolicy"),
        (
            "initContainers", {"restartPolicy": "Always", "restartPolicyRules": [RULE]},
            "not allowed for sidecar",
        ),
        (
            "containers", {"restartPolicy": "Never", "restartPolicyRules": [{**RULE, "action": "x"}]},
            'restartPolicyRules[0].action: Unsupported value: "x"',
        ),
        (
            "containers",
            {
                "restartPolicy": "Never",
                "restartPolicyRules": [
                    {"action": "Restart", "exitCodes": {"operator": "In", "values": [256]}}
                ],
            },
            "exitCodes.values[0]: Invalid value: 256",
        ),
        ("containers", {"lifecycle": {"stopSignal": "SIGFOO"}}, "lifecycle.stopSignal: Unsupported"),
        (
            "containers", {"lifecycle": {"preStop": {"sleep": {"seconds": -1}}}},
            "lifecycle.preStop.sleep: Invalid value: -1",
        ),
    ],
)  # fmt: skip
def test_lifecycle_fields_are_checked(group, fields, words):
    pod = copy.deepcopy(BASE)
    pod["spec"][group][0].update(fields)
    with pytest.raises(FieldErrors) as caught:
        validate_pod(pod)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("group", "fields"),
    [
        ("initContainers", {"restartPolicy": "Always", "lifecycle": {"stopSignal": "SIGUSR1"}}),
        ("containers", {"restartPolicy": "Never", "restartPolicyRules": [RULE]}),
        ("containers", {"lifecycle": {"preStop": {"tcpSocket": {"port": 1}}}}),
        ("containers", {"lifecycle": {"postStart": {"sleep": {"seconds": 0}}}}),
    ],
)
def test_these_lifecycle_fields_are_good(group, fields):
    pod = copy.deepcopy(BASE)
    pod["spec"][group][0].update(fields)
    validate_pod(pod)
