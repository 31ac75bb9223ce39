"""Security contexts on the real kernel: seccomp profiles, identity, privileges."""

from __future__ import annotations

import json
import os

import pytest

from tests.node import shell, sleeper

REFUSE_MKDIR = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 39},
        # Only a socket of this family: conditions on arguments.
        {
            "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 93,
            "args": [{"index": 0, "value": 10, "op": "SCMP_CMP_EQ"}],
        },
        {
            "names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
            "args": [{"index": 0, "value": 0o77, "valueTwo": 0o70, "op": "SCMP_CMP_MASKED_EQ"}],
        },
    ],
}  # fmt: skip


@pytest.fixture
def profile(node):
    os.makedirs(node.instance.seccomp_dir, exist_ok=True)
    with open(f"{node.instance.seccomp_dir}/mkdir.json", "w", encoding="utf-8") as f:
        json.dump(REFUSE_MKDIR, f)
    return {"seccompProfile": {"type": "Localhost", "localhostProfile": "mkdir.json"}}


def test_a_profile_of_the_node_filters_calls_and_arguments(node, pods, profile) -> None:
    """Also in an exec, with the profile that the container started with."""
    pods.append("sec")
    node.pod("sec", sleeper(securityContext=profile))
    os.unlink(f"{node.instance.seccomp_dir}/mkdir.json")
    done = node.run("exec", "sec", "--", "mkdir", "/tmp/x", check=False)
    assert "Directory not empty" in done.stderr
    assert "inet 127.0.0.1" in node.exec("sec", "ifconfig", "lo").replace("addr:", "")
    refused = node.run("exec", "sec", "--", "nc", "-w", "1", "::1", "9", check=False).stderr
    assert "Protocol not supported" in refused


def test_a_profile_that_is_missing_or_wrong_is_told(node, pods) -> None:
    pods += ["nosec", "badsec"]
    os.makedirs(node.instance.seccomp_dir, exist_ok=True)
    with open(f"{node.instance.seccomp_dir}/bad.json", "w", encoding="utf-8") as f:
        f.write('{"defaultAction": "SCMP_ACT_NOTIFY"}')
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerError"
    for name, file, words in (
        ("nosec", "missing.json", "cannot load seccomp profile"),
        ("badsec", "bad.json", "'SCMP_ACT_NOTIFY' is not supported"),
    ):
        context = {"seccompProfile": {"type": "Localhost", "localhostProfile": file}}
        node.pod(name, sleeper(securityContext=context), wait=reason)
        assert words in node.state(name)["waiting"]["message"]


@pytest.mark.smoke
def test_groups_are_the_images_and_the_pods_or_only_the_pods(node, pods) -> None:
    pods += ["merge", "strict"]
    context = {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "supplementalGroups": [4000]}
    node.pod("merge", sleeper(), securityContext=context)
    assert set(node.exec("merge", "id", "-G").split()) == {"3000", "2000", "4000"}
    node.pod("strict", sleeper(), securityContext={**context, "supplementalGroupsPolicy": "Strict"})
    assert set(node.exec("strict", "id", "-G").split()) == {"3000", "2000", "4000"}


def test_non_root_is_verified(node, pods) -> None:
    pods += ["root", "asked"]
    reason = (
        "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerConfigError"
    )
    node.pod("root", sleeper(securityContext={"runAsNonRoot": True}), wait=reason)
    message = node.state("root")["waiting"]["message"]
    assert message.startswith('container has runAsNonRoot and image will run as root (pod: "root_')
    node.pod("asked", sleeper(securityContext={"runAsNonRoot": True, "runAsUser": 0}), wait=reason)
    assert (
        "container's runAsUser breaks non-root policy" in node.state("asked")["waiting"]["message"]
    )


def test_masks_go_when_asked_for(node, pods) -> None:
    pods += ["masked", "unmasked", "priv"]
    write = "echo 1 > /proc/sys/net/ipv4/tcp_syncookies && echo written || echo refused"
    for name, context, wanted in (
        ("masked", {}, "refused"),
        # Validation wants a user namespace for it; its root writes there with this capability.
        ("unmasked", {"procMount": "Unmasked", "capabilities": {"add": ["NET_ADMIN"]}}, "written"),
        ("priv", {"privileged": True}, "written"),
    ):
        spec = {"hostUsers": False} if "procMount" in context else {}
        node.pod(name, shell("exec sleep 1000", securityContext=context), **spec)
        assert node.exec(name, "sh", "-c", f"({write}) 2>/dev/null").strip() == wanted
