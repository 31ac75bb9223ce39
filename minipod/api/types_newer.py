"""Fields that Kubernetes got after the release that types.json.gz is made from, in the words of `types`. Data only.

1.33: lifecycle.stopSignal. 1.34: restartPolicyRules, fileKeyRef, hostnameOverride, podCertificate, status.allocatedResources.
"""

from __future__ import annotations

_RULES = "[]core.v1.ContainerRestartRule"

NEWER: dict[str, dict[str, str]] = {
    "core.v1.Container": {"restartPolicyRules": _RULES},
    "core.v1.EphemeralContainer": {"restartPolicyRules": _RULES},
    "core.v1.ContainerRestartRule": {
        "action": "str required",
        "exitCodes": "core.v1.ContainerRestartRuleOnExitCodes",
    },
    "core.v1.ContainerRestartRuleOnExitCodes": {
        "operator": "str required",
        "values": "[]int32 set",
    },
    "core.v1.Lifecycle": {"stopSignal": "str"},
    "core.v1.EnvVarSource": {"fileKeyRef": "core.v1.FileKeySelector"},
    "core.v1.FileKeySelector": {
        "volumeName": "str required",
        "path": "str required",
        "key": "str required",
        "optional": "bool",
    },
    "core.v1.PodSpec": {"hostnameOverride": "str"},
    "core.v1.PodStatus": {
        "observedGeneration": "int64",
        "allocatedResources": "{}resource.Quantity",
        "resources": "core.v1.ResourceRequirements",
    },
    "core.v1.PodCondition": {"observedGeneration": "int64"},
    "core.v1.ContainerStatus": {"stopSignal": "str"},
}
