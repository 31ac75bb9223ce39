"""kubectl's commands that look, with every kubectl: discovery, explain, get in every form, watches, describe, events."""

from __future__ import annotations

import json
import re
import select
import subprocess
import urllib.request

import yaml

from tests.kubectl import config_map, pod
from tests.node import eventually, shell

# -- the server


def test_version_and_discovery(kubectl) -> None:
    told, info, versions, listed, ready = kubectl.each(
        ["version -o json", "cluster-info", "api-versions", "api-resources --no-headers -o wide", "get --raw /readyz"]
    )  # fmt: skip
    version = json.loads(told)["serverVersion"]
    assert (version["major"], version["minor"]) == ("1", "32")
    assert re.search(r"is running at \S*https://127.0.0.1", info)
    assert {"v1", "rbac.authorization.k8s.io/v1", "events.k8s.io/v1"} <= set(versions.split())
    assert re.search(r"^configmaps +cm +v1 +true +ConfigMap +.*watch", listed, re.MULTILINE)
    assert re.search(r"^nodes +no +v1 +false +Node ", listed, re.MULTILINE)
    assert ready == "ok"
    assert '"kind": "NodeList"' in kubectl("cluster-info", "dump")


def test_explain(kubectl) -> None:
    expected = {
        "pod.spec.containers.ports": ["containerPort", "<integer>", "A port that a container serves."],
        "role.rules": ["verbs", "<[]string>", "The rights; they add up."],
        "configmaps": ["binaryData", "<map[string]string>"],
        "pv.spec.claimRef": ["uid", "<string>"],
        "deployments.spec.strategy": ["rollingUpdate", "<RollingUpdateDeployment>"],  # of a kind without objects
    }  # fmt: skip
    shown = kubectl.each(f"explain {field}" for field in expected)
    for told, words in zip(shown, expected.values(), strict=True):
        for word in words:
            assert word in told


def test_config_view_and_proxy(kubectl) -> None:
    assert "server: https://127.0.0.1" in kubectl("config", "view", "--minify")
    command = kubectl.words("proxy", "--port=0")
    with subprocess.Popen(
        command, env={"HOME": kubectl.home}, stdout=subprocess.PIPE, text=True
    ) as proxy:
        try:
            port = re.search(r":(\d+)$", proxy.stdout.readline())[1]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/namespaces") as answer:
                assert json.load(answer)["kind"] == "NamespaceList"
        finally:
            proxy.terminate()


# -- reading


def test_get_in_every_form(space) -> None:
    space("apply", "-f", "-", text=config_map("b", k="1") + "---\n" + config_map("a", k="2", l="3"))
    shown = space.each(
        f"get {words}"
        for words in (
            "cm -l app --no-headers", "cm -l tier=a,tier!=b -o name", "cm --field-selector metadata.name=b -o name",
            "cm -l app=web --sort-by=.data.k --no-headers", "cm a -o jsonpath={.data.l}",
            "cm -l app -o custom-columns=N:.metadata.name,K:.data.k", "cm a -o yaml", "cm a --show-labels",
            "cm --chunk-size=1 -l app -o name", "cm/nosuch --ignore-not-found", "cm a -o go-template={{.data.k}}",
            "cm -A -l app -L tier --show-kind --no-headers",
        )
    )  # fmt: skip
    plain, by_label, by_field, by_key, path, columns, text, labels, *others = shown
    chunks, missing, template, everywhere = others
    assert [line.split()[:2] for line in plain.splitlines()] == [["a", "2"], ["b", "1"]]
    assert (by_label, by_field) == ("configmap/a\n", "configmap/b\n")
    assert [line.split()[0] for line in by_key.splitlines()] == ["b", "a"]
    assert (path, template) == ("3", "2")
    assert columns.split() == ["N", "K", "a", "2", "b", "1"]
    assert yaml.safe_load(text)["data"] == {"k": "2", "l": "3"}
    assert "app=web,tier=a" in labels
    assert chunks.split() == ["configmap/a", "configmap/b"]
    assert missing == ""
    assert f"{space.namespace} configmap/a 2" in " ".join(everywhere.split())
    assert space("get", "cm", "-l", "tier in (a, c)", "-o", "name") == "configmap/a\n"


def test_get_watches(space) -> None:
    space("create", "configmap", "w", "--from-literal=a=1")
    words = space.words("get", "cm", "w", "-w", "--no-headers", "-o", "custom-columns=A:.data.a")
    with subprocess.Popen(
        words, env={"HOME": space.home}, stdout=subprocess.PIPE, bufsize=0
    ) as watch:
        seen = [int(watch.stdout.readline())]
        value = 1
        while len(seen) < 4 and value < 100:  # it may not watch yet when the first changes come
            value += 1
            space("patch", "cm", "w", "-p", json.dumps({"data": {"a": str(value)}}))
            while select.select([watch.stdout], [], [], 0.05)[0]:
                seen.append(int(watch.stdout.readline()))
        watch.terminate()
    first, *values = seen
    assert first == 1
    assert values == list(range(values[0], values[0] + len(values)))  # none is missing or twice


def test_describe_and_events(kubectl, space) -> None:
    polite = shell("trap exit TERM; sleep 1000 & wait", image="busybox:1.36")  # ends at once
    space("apply", "-f", "-", text=pod("d", containers=[polite]))
    space("wait", "--for=condition=Ready", "pod/d", "--timeout=30s")
    eventually(lambda: "Started container app" in space("get", "events"))
    told, listed, new, nodes = space.each(
        ["describe pod d", "get events", "get events.v1.events.k8s.io -o wide", "describe node"]
    )
    assert re.search(r"^Status: +Running$", told, re.MULTILINE)
    assert "Labels: " in nodes
    for shown in (told, listed, new):
        assert "Started container app" in shown
    if kubectl.version >= (1, 26):  # older ones have no such command
        assert "Started" in space("events", "--for", "pod/d")
    if kubectl.version >= (1, 23):
        done = space("wait", "--for=jsonpath={.status.phase}=Running", "pod/d", "--timeout=30s")
        assert done == "pod/d condition met\n"
    space("delete", "pod", "d", "--now")
    assert space("get", "pods", "-o", "name") == ""
