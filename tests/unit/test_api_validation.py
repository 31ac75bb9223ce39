"""What a manifest may say: every error at once, with its path. Excluded: what the server does with it."""

from __future__ import annotations

import copy
from fractions import Fraction
from typing import Any

import pytest
import yaml

from minipod.api import defaults, quantity
from minipod.api.fields import FieldErrors
from minipod.api.validation import validate_pod
from minipod.errors import InvalidSpec

GOOD = yaml.safe_load("""
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - {name: app, image: busybox, resources: {limits: {cpu: 500m, memory: 64Mi}}}
""")


def changed(path: str, value: Any) -> dict[str, Any]:
    pod = copy.deepcopy(GOOD)
    target = pod
    *parts, last = path.split(".")
    for part in parts:
        target = target[int(part)] if part.isdigit() else target.setdefault(part, {})
    target[last] = value
    return pod


@pytest.mark.parametrize(
    ("path", "value", "wanted"),
    [
        ("spec.containers.0.imagee", "x", 'spec.containers[0].imagee: unknown field (did you mean "image"?)'),
        ("spec.containers.0.image", "", "spec.containers[0].image: Required value"),
        ("spec.containers.0.image", 7, "spec.containers[0].image: expected a string, found 7"),
        ("spec.containers.0.tty", "yes", "spec.containers[0].tty: expected a boolean (true or false), found 'yes'"),
        ("spec.containers.0.name", "App_1", 'spec.containers[0].name: Invalid value: "App_1": a lowercase RFC 1123 label'),
        ("spec.containers.0.name", "a" * 64, f'spec.containers[0].name: Invalid value: "{"a" * 64}": must be no more than 63 characters'),
        ("metadata.name", "a" * 254, f'metadata.name: Invalid value: "{"a" * 254}": must be no more than 253 characters'),
        ("metadata.namespace", "a" * 64, f'metadata.namespace: Invalid value: "{"a" * 64}": must be no more than 63 characters'),
        ("spec.nodeName", "a" * 254, f'spec.nodeName: Invalid value: "{"a" * 254}": must be no more than 253 characters'),
        ("spec.containers", [], "spec.containers: Required value"),
        ("spec.containers.0.resources.limits.memory", "64Mo", "spec.containers[0].resources.limits[memory]: expected a quantity"),
        ("spec.containers.0.resources.requests", {"cpu": "2"}, "must be less than or equal to cpu limit of 500m"),
        ("spec.restartPolicy", "Sometimes", 'spec.restartPolicy: Unsupported value: "Sometimes"'),
        (
            "spec.containers.0.securityContext.procMount", "Unmasked",
            'spec.containers[0].securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`',
        ),
        ("metadata.name", "Web", 'metadata.name: Invalid value: "Web": a lowercase RFC 1123 subdomain'),
        (
            "spec.containers.0.volumeMounts",
            [{"name": "x", "mountPath": "/x"}],
            'spec.containers[0].volumeMounts[0].name: Not found: "x"',
        ),
        ("spec.containers.0.livenessProbe", {"periodSeconds": 1}, "livenessProbe: Required value: must specify a handler type"),
        (
            "spec.containers.0.ports",
            [{"containerPort": 80, "hostPort": 80, "hostIP": "fe80::1%x }\nflush ruleset\n"}],
            "ports[0].hostIP: Invalid value",
        ),
        ("spec.containers.0.args", ["a", "b\0c"], "spec.containers[0].args[1]: Invalid value: 'b\\x00c': must not contain a NUL"),
        ("spec.volumes", [{"name": "v", "hostPath": {"path": "/a\0"}}], "spec.volumes[0].hostPath.path: Invalid value"),
        ("spec.activeDeadlineSeconds", 1 << 40, "spec.activeDeadlineSeconds: Invalid value: 1099511627776: must be between 1 and"),
        ("metadata.namespace", "../x", 'metadata.namespace: Invalid value: "../x"'),
        ("spec.containers.0.ports", [{"containerPort": 70000}], "ports[0].containerPort: Invalid value: 70000: must be between"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_by_its_path(path: str, value: object, wanted: str) -> None:
    with pytest.raises(FieldErrors) as caught:
        validate_pod(changed(path, value))
    assert any(wanted in str(error) for error in caught.value.fields)


def test_all_errors_come_at_once() -> None:
    pod = changed("spec.containers.0.imagee", "x")
    pod["spec"]["schedulingGates"] = []
    pod["metadata"]["nmae"] = "x"
    with pytest.raises(FieldErrors) as caught:
        validate_pod(pod)
    assert len(caught.value.fields) == 3


def test_two_containers_of_one_name_are_refused() -> None:
    pod = copy.deepcopy(GOOD)
    pod["spec"]["containers"] *= 2
    with pytest.raises(FieldErrors, match='Duplicate value: "app"'):
        validate_pod(pod)


def test_lenient_warns_about_what_is_not_supported() -> None:
    warnings = validate_pod(changed("spec.schedulingGates", []), lenient=True)
    assert warnings == [
        "spec.schedulingGates: not supported by minipod: there is no scheduler that would wait, ignored"
    ]


def test_a_field_without_meaning_here_is_accepted_with_a_warning() -> None:
    assert "spec.schedulerName" in validate_pod(changed("spec.schedulerName", "mine"))[0]


def test_defaults_are_those_of_an_api_server() -> None:
    pod = copy.deepcopy(GOOD)
    defaults.apply(pod)
    assert pod["spec"]["restartPolicy"] == "Always"
    container = pod["spec"]["containers"][0]
    assert container["imagePullPolicy"] == "Always"
    assert container["resources"]["requests"] == {"cpu": "500m", "memory": "64Mi"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100m", Fraction(1, 10)),
        ("1Gi", 2**30),
        ("0.5", Fraction(1, 2)),
        ("1e3", 1000),
        ("12E", 12 * 10**18),
    ],
)
def test_quantities_are_exact(text: str, value: Fraction) -> None:
    assert quantity.parse(text) == value


@pytest.mark.parametrize("text", ["", "Mi", "1 Gi", "1gi", "--1"])
def test_a_bad_quantity_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec):
        quantity.parse(text)


def test_what_has_the_right_type_is_checked_whatever_else_has_not() -> None:
    pod = changed("spec.containers.0.tty", "yes")
    pod["metadata"]["name"] = "Bad_Name"
    pod["spec"]["containers"] += [
        {"name": "app", "image": 7, "resources": {"limits": {"cpu": "-1"}}},
        "x",
    ]
    with pytest.raises(FieldErrors) as caught:
        validate_pod(pod)
    assert sorted(error.path for error in caught.value.fields) == [
        "metadata.name", "spec.containers[0].tty", "spec.containers[1].image", "spec.containers[1].name",
        "spec.containers[1].resources.limits[cpu]", "spec.containers[2]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "wanted"),
    [
        ("spec.containers", "app", "spec.containers"),
        ("spec", [], "spec"),
        ("metadata", 1, "metadata"),
        ("spec.containers.0.livenessProbe", {"httpGet": 80}, "spec.containers[0].livenessProbe.httpGet"),
        ("spec.volumes", [{"name": "v", "emptyDir": "x"}], "spec.volumes[0].emptyDir"),
    ],
)  # fmt: skip
def test_a_wrong_type_is_one_error_not_also_what_follows_from_it(
    path: str, value: object, wanted: str
) -> None:
    with pytest.raises(FieldErrors) as caught:
        validate_pod(changed(path, value))
    assert [error.path for error in caught.value.fields] == [wanted]


def test_mounts_of_volumes_that_cannot_be_read_are_not_called_missing() -> None:
    pod = changed("spec.volumes", [{"name": 5, "emptyDir": {}}])
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
    with pytest.raises(FieldErrors) as caught:
        validate_pod(pod)
    assert [error.path for error in caught.value.fields] == ["spec.volumes[0].name"]


@pytest.mark.parametrize("empty", [None, [None], {}])
def test_nothing_in_the_place_of_containers_is_an_error_of_the_manifest(empty: object) -> None:
    with pytest.raises(FieldErrors, match=r"spec\.containers"):
        validate_pod(changed("spec.containers", empty))
