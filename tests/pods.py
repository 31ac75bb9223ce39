"""A compiled pod for the tests of rules."""

from minipod.kubelet.rules.pods import compile_pod


def pod(policy: str = "Always", *, init: int = 0, apps: int = 1, **spec):
    def several(prefix, n):
        return [{"name": f"{prefix}{i}", "image": "busybox:1.36"} for i in range(n)]

    raw = {
        "metadata": {"name": "web", "namespace": "ns", "uid": "u1", **spec.pop("metadata", {})},
        "spec": {
            "restartPolicy": policy,
            "initContainers": several("i", init),
            "containers": several("a", apps),
            **spec,
        },
    }
    return compile_pod(raw)
