"""What Kubernetes' own validation refuses is refused with the same field path and the same kind of message."""

from __future__ import annotations

from typing import Any

import pytest

from minipod.api import defaults
from minipod.api.fields import FieldErrors
from minipod.api.validation import validate_pod

APP = "spec.containers[0]"


def errors(spec: dict[str, Any] | None = None, **container: Any) -> list[str]:
    """Validate a pod of one container; return what is wrong with it."""
    app = {"name": "app", "image": "busybox", **container}
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {"containers": [app], **(spec or {})},
    }  # fmt: skip
    try:
        validate_pod(pod)
    except FieldErrors as e:
        return [str(f) for f in e.fields]
    return []


def node_affinity(*expressions: dict[str, Any]) -> dict[str, Any]:
    terms = [{"matchExpressions": list(expressions)}] if expressions else []
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {"affinity": {"nodeAffinity": required}}


SPECS: list[tuple[dict[str, Any], str]] = [
    (
        {"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]},
        "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
    ),
    ({"volumes": [{"name": "v", "hostPath": {"path": "/a/../b"}}]}, "hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"),
    (
        {"volumes": [{"name": "v", "hostPath": {"path": "/a", "type": "Pipe"}}]},
        'spec.volumes[0].hostPath.type: Unsupported value: "Pipe": supported values: "", "BlockDevice"',
    ),
    ({"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "-1"}}]}, "spec.volumes[0].emptyDir.sizeLimit: Forbidden"),
    ({"volumes": [{"name": "v", "nfs": {}}]}, "spec.volumes[0].nfs: not supported by minipod: mount it on the host"),
    ({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]}, 'spec.volumes[1].name: Duplicate value: "v"'),
    ({"securityContext": {"runAsUser": -1}}, "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647"),
    (
        {"securityContext": {"seccompProfile": {"type": "Localhost"}}},
        "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
    ),
    (
        {"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "../x"}}},
        "must not contain '..'",
    ),
    ({"securityContext": {"fsGroupChangePolicy": "Never"}}, 'Unsupported value: "Never": supported values: "Always", "OnRootMismatch"'),
    ({"securityContext": {"sysctls": [{"name": "a..b", "value": "1"}]}}, "spec.securityContext.sysctls[0].name: Invalid value"),
    (
        {"hostNetwork": True, "securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}},
        "may not be specified when 'hostNetwork' is true",
    ),
    ({"dnsPolicy": "None"}, "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver"),
    ({"dnsConfig": {"nameservers": ["a.b"]}}, "spec.dnsConfig.nameservers[0]: Invalid value: \"a.b\": must be a valid IP address"),
    ({"hostAliases": [{"ip": "1.2.3", "hostnames": ["x"]}]}, "spec.hostAliases[0].ip: Invalid value"),
    ({"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["X_"]}]}, "spec.hostAliases[0].hostnames[0]: Invalid value"),
    ({"os": {"name": "plan9"}}, 'spec.os.name: Unsupported value: "plan9"'),
    ({"serviceAccountName": "A_"}, 'spec.serviceAccountName: Invalid value: "A_": a lowercase RFC 1123 subdomain'),
    ({"priorityClassName": "A_"}, 'spec.priorityClassName: Invalid value: "A_": a lowercase RFC 1123 subdomain'),
    ({"runtimeClassName": "A_"}, 'spec.runtimeClassName: Invalid value: "A_": a lowercase RFC 1123 subdomain'),
    ({"nodeName": "A_"}, 'spec.nodeName: Invalid value: "A_": a lowercase RFC 1123 subdomain'),
    ({"preemptionPolicy": "Maybe"}, 'spec.preemptionPolicy: Unsupported value: "Maybe": supported values: "Never", "PreemptLowerPriority"'),
    ({"overhead": {"cpu": "-1"}}, 'spec.overhead[cpu]: Invalid value: "-1": must be greater than or equal to 0'),
    ({"hostnameOverride": "h" * 65}, "must be no more than 64 characters"),
    ({"hostnameOverride": "h", "hostNetwork": True}, "spec.hostnameOverride: Forbidden: may not be set when `hostNetwork` is true"),
    ({"hostnameOverride": "h", "setHostnameAsFQDN": True}, "may not be set when `setHostnameAsFQDN` is true"),
    ({"volumes": [{"name": "v", "ephemeral": {}}]}, "spec.volumes[0].ephemeral.volumeClaimTemplate: Required value"),
    (
        {"volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}}}]},
        "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value",
    ),
    (
        {"initContainers": [{"name": "i", "image": "x", "ports": [{"containerPort": n, "hostPort": 5} for n in (1, 2)]}]},
        'spec.initContainers[0].ports[1].hostPort: Duplicate value: "TCP//5"',
    ),
    (
        {"tolerations": [{"operator": "Equal"}]},
        'spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values',
    ),
    ({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}, "value must be empty when `operator` is 'Exists'"),
    (
        {"tolerations": [{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5}]},
        "spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set",
    ),
    ({"tolerations": [{"key": "a", "operator": "In"}]}, 'spec.tolerations[0].operator: Unsupported value: "In"'),
    ({"tolerations": [{"key": "a", "effect": "No"}]}, 'spec.tolerations[0].effect: Unsupported value: "No"'),
    ({"nodeSelector": {"a": "b c"}}, 'spec.nodeSelector: Invalid value: "b c": a valid label must be'),
    (node_affinity(), "nodeSelectorTerms: Required value: must have at least one node selector term"),
    (node_affinity({"key": "a", "operator": "In"}), "values: Required value: must be specified when `operator` is 'In' or 'NotIn'"),
    (node_affinity({"key": "a", "operator": "Exists", "values": ["x"]}), "values: Forbidden: may not be specified when `operator`"),
    (node_affinity({"key": "a", "operator": "Gt", "values": ["1", "2"]}), "must be specified single value when `operator` is 'Lt' or 'Gt'"),
    (node_affinity({"key": "a", "operator": "Near"}), 'operator: Invalid value: "Near": not a valid selector operator'),
    ({"schedulingGates": [{"name": "x"}]}, "spec.schedulingGates: not supported by minipod: there is no scheduler"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "wanted"), SPECS, ids=[w[:60] for _, w in SPECS])
def test_a_wrong_pod_is_refused(spec: dict[str, Any], wanted: str) -> None:
    found = errors(spec)
    assert len(found) == 1
    assert wanted in found[0]


CONTAINERS: list[tuple[dict[str, Any], str]] = [
    ({"env": [{"name": "A=B"}]}, "env[0].name: Invalid value"),
    ({"env": [{"name": "A", "valueFrom": {}}]}, "env[0].valueFrom: Invalid value: \"\": must specify one of"),
    (
        {"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
        "may not be specified when `value` is not empty",
    ),
    (
        {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.hostname"}}}]},
        "env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.hostname\": error converting fieldPath: field label not supported",
    ),
    (
        {"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.gpu"}}}]},
        'resourceFieldRef.resource: Unsupported value: "limits.gpu"',
    ),
    ({"resources": {"limits": {"gpu": "1"}}}, "resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource type"),
    ({"resources": {"limits": {"x.io/gpu": "500m"}}}, "must be an integer"),
    ({"resources": {"limits": {"x.io/gpu": "2"}, "requests": {"x.io/gpu": "1"}}}, "must be equal to x.io/gpu limit of 2"),
    ({"resources": {"requests": {"x.io/gpu": "1"}}}, "resources.limits: Required value: Limit must be set"),
    ({"resources": {"limits": {"hugepages-2Mi": "2Mi"}}}, "resources: Forbidden: HugePages require cpu or memory"),
    ({"ports": [{"containerPort": 80, "name": "80"}]}, "ports[0].name: Invalid value"),
    ({"ports": [{"containerPort": 80, "name": "a"}, {"containerPort": 81, "name": "a"}]}, 'ports[1].name: Duplicate value: "a"'),
    ({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "/x"}]}, "subPath: Invalid value: \"/x\": must be a relative path"),
    (
        {"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "x", "subPathExpr": "x"}]},
        "subPathExpr and subPath are mutually exclusive",
    ),
    ({"volumeMounts": [{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]}, "only to privileged containers"),
    (
        {"volumeMounts": [{"name": "v", "mountPath": "/v", "recursiveReadOnly": "Enabled"}]},
        "recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
    ),
    ({"securityContext": {"procMount": "All"}}, 'securityContext.procMount: Unsupported value: "All"'),
    (
        {"securityContext": {"privileged": True, "allowPrivilegeEscalation": False}},
        "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
    ),
    (
        {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}, "allowPrivilegeEscalation": False}},
        "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
    ),
    ({"image": " busybox"}, 'image: Invalid value: " busybox": must not have leading or trailing whitespace'),
    (
        {"lifecycle": {"preStop": {"sleep": {"seconds": 40}}}},
        "lifecycle.preStop.sleep: Invalid value: 40: must be non-negative and less than terminationGracePeriodSeconds (30)",
    ),
    ({"livenessProbe": {"httpGet": {"port": "A_B"}}}, 'livenessProbe.httpGet.port: Invalid value: "A_B": must be no more than 15'),
    (
        {"livenessProbe": {"httpGet": {"port": 80, "httpHeaders": [{"name": "a b", "value": "x"}]}}},
        'livenessProbe.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of',
    ),
    (
        {"env": [{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v2", "fieldPath": "metadata.name"}}}]},
        "error converting fieldPath: unsupported pod version: v2",
    ),
    (
        {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a b']"}}}]},
        'env[0].valueFrom.fieldRef: Invalid value: "a b": name part must consist of',
    ),
    (
        {"env": [{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "none", "path": "x", "key": "K"}}}]},
        'env[0].valueFrom.fileKeyRef.volumeName: Not found: "none"',
    ),
    (
        {"env": [{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "../x", "key": "K"}}}]},
        "fileKeyRef.path: Invalid value: \"../x\": must not contain '..'",
    ),
    ({"resources": {"limits": {"a b/c": "1"}}}, "resources.limits[a b/c]: Invalid value: \"a b/c\": prefix part"),
    ({"resources": {"limits": {"requests.example.com/x": "1"}}}, "doesn't follow extended resource name standard"),
    ({"securityContext": {"appArmorProfile": {}}}, "appArmorProfile.type: Required value: type is required when appArmorProfile is set"),
    (
        {"securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": " x"}}},
        'appArmorProfile.localhostProfile: Invalid value: " x": must not be padded with whitespace',
    ),
    (
        {"securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": "x" * 4096}}},
        "appArmorProfile.localhostProfile: Too long: may not be more than 4095 bytes",
    ),
    ({"securityContext": {"windowsOptions": {}}}, "securityContext.windowsOptions: not supported by minipod: only for Windows"),
]  # fmt: skip


@pytest.mark.parametrize(("container", "wanted"), CONTAINERS, ids=[w[:60] for _, w in CONTAINERS])
def test_a_wrong_container_is_refused(container: dict[str, Any], wanted: str) -> None:
    found = errors({"volumes": [{"name": "v", "emptyDir": {}}]}, **container)
    assert len(found) == 1
    assert found[0].startswith(APP)
    assert wanted in found[0]


def test_a_restart_for_a_resize_is_refused_where_nothing_is_restarted() -> None:
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    (found,) = errors({"restartPolicy": "Never"}, resizePolicy=policy)
    assert found == (
        f'{APP}.resizePolicy[0].restartPolicy: Invalid value: "RestartContainer":'
        " must be 'NotRequired' when `restartPolicy` is 'Never'"
    )


def test_a_container_has_no_higher_limit_than_its_pod() -> None:
    (found,) = errors({"resources": {"limits": {"cpu": "1"}}}, resources={"limits": {"cpu": "2"}})
    words = 'Invalid value: "2": must be less than or equal to pod limits of 1'
    assert found == f"{APP}.resources.limits[cpu]: {words}"


ARMOR = "container.apparmor.security.beta.kubernetes.io/"


@pytest.mark.parametrize(
    ("value", "profile"),
    [
        ("runtime/default", {"type": "RuntimeDefault"}),
        ("unconfined", {"type": "Unconfined"}),
        ("localhost/mine", {"type": "Localhost", "localhostProfile": "mine"}),
    ],
)
def test_an_old_annotation_becomes_the_field(value: str, profile: dict[str, str]) -> None:
    own = {"appArmorProfile": {"type": "Unconfined"}}
    containers = [
        {"name": "app", "image": "x"},
        {"name": "own", "image": "x", "securityContext": own},
    ]
    made: dict[str, Any] = {
        "apiVersion": "v1", "kind": "Pod", "spec": {"containers": containers},
        "metadata": {"name": "web", "annotations": {f"{ARMOR}app": value, f"{ARMOR}own": value}},
    }  # fmt: skip
    assert validate_pod(made) == []
    defaults.apply(made)
    first, second = made["spec"]["containers"]
    assert first["securityContext"]["appArmorProfile"] == profile
    assert second["securityContext"] == own


def test_an_old_annotation_that_is_wrong_is_refused() -> None:
    metadata = {"name": "web", "annotations": {f"{ARMOR}none": "docker"}}
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "app", "image": "x"}]},
    }  # fmt: skip
    with pytest.raises(FieldErrors) as caught:
        validate_pod(pod)
    assert [str(f) for f in caught.value.fields] == [
        f'metadata.annotations[{ARMOR}none]: Invalid value: "none": container not found',
        f'metadata.annotations[{ARMOR}none]: Invalid value: "docker": invalid AppArmor profile name: "docker"',
    ]
