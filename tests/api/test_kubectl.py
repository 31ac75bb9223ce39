"""Every command of kubectl on objects, with every kubectl: discovery, reading, writing, watching, deleting."""

from __future__ import annotations

import json
import re
import select
import subprocess
import urllib.request

import yaml

from tests.node import eventually, shell, sleeper


def config_map(name: str, **data: str) -> str:
    labels = {"app": "web", "tier": name}
    return yaml.safe_dump(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data}
    )  # fmt: skip


def pod(name: str, **more: object) -> str:
    spec = {
        "terminationGracePeriodSeconds": 0,
        "containers": [sleeper("app", image="busybox:1.36")],
        **more,
    }
    return yaml.safe_dump(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    )


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


# -- writing


def test_create(kubectl, space) -> None:
    printed = space.each(
        f"create {words}"
        for words in (
            "configmap x --from-literal=a=b", "secret generic x --from-literal=a=b",
            "secret docker-registry y --docker-server=s --docker-username=u --docker-password=p",
            "serviceaccount x", "role x --verb=get --resource=pods", "rolebinding x --clusterrole=view --user=u",
        )
    )  # fmt: skip
    assert [p.split()[-1] for p in printed] == ["created"] * 6
    if kubectl.version >= (1, 24):  # older ones make no tokens
        assert space("create", "token", "x").count(".") == 2


def test_create_what_no_namespace_holds(kubectl) -> None:
    name = f"kc-{kubectl.version[1]}"  # the namespace goes by and by
    try:
        assert kubectl("create", "priorityclass", name, "--value=7").endswith(" created\n")
        assert kubectl.get("priorityclass", name)["value"] == 7
        assert f'priorityclasses.scheduling.k8s.io "{name}" already exists' in kubectl.fails(
            "create", "priorityclass", name, "--value=7"
        )
        assert kubectl("create", "namespace", name).endswith(" created\n")
    finally:
        made = (f"priorityclass/{name}", f"namespace/{name}")
        kubectl("delete", *made, "--ignore-not-found", "--wait=false")


def test_apply_diff_replace_edit(space) -> None:
    first, second = config_map("a", k="1"), config_map("a", k="2")
    assert space("apply", "-f", "-", text=first) == "configmap/a created\n"
    assert space("apply", "-f", "-", text=first) == "configmap/a unchanged\n"
    assert space("apply", "--dry-run=server", "-f", "-", text=second) == "configmap/a configured (server dry run)\n"  # fmt: skip
    different = space.run("diff", "-f", "-", text=second, check=False)
    assert different.returncode == 1
    assert '+  k: "2"' in different.stdout
    assert space("apply", "-f", "-", text=second) == "configmap/a configured\n"
    assert space("replace", "-f", "-", text=first) == "configmap/a replaced\n"
    assert space("replace", "--force", "-f", "-", text=second).endswith("configmap/a replaced\n")
    space.env = {"KUBE_EDITOR": "sed -i s/web/edited/"}
    assert "edited" in space("edit", "cm", "a")
    assert space("get", "cm", "a", "-o", "jsonpath={.metadata.labels.app}") == "edited"


def test_prune_deletes_what_is_no_longer_applied(kubectl, space) -> None:
    flag = "--prune-allowlist" if kubectl.version >= (1, 26) else "--prune-whitelist"
    listed = (f"{flag}=core/v1/ConfigMap",)
    every = (
        () if kubectl.version >= (1, 25) else listed
    )  # older ones want kinds that 1.32 has no more
    for kinds, gone in ((every, "b"), (listed, "c")):  # of every kind that kubectl knows; of one
        words = ("apply", "--prune", "-l", "app=web", *kinds, "-f", "-")
        space(*words, text=config_map("a") + "---\n" + config_map(gone))
        assert f"configmap/{gone} pruned" in space(*words, text=config_map("a"))
    if kubectl.version >= (1, 27):  # by a set of its own, kept in a secret
        space.env = {"KUBECTL_APPLYSET": "true"}
        words = ("apply", "--prune", "--applyset=secrets/set", "-f", "-")
        space(*words, text=config_map("c") + "---\n" + config_map("d"))
        assert "configmap/d pruned" in space(*words, text=config_map("c"))


def test_server_side_apply_keeps_managers_apart(kubectl, space) -> None:
    first = config_map("a", k="1", l="1")
    assert space("apply", "--server-side", "-f", "-", text=first) == "configmap/a serverside-applied\n"  # fmt: skip
    other = ("apply", "--server-side", "--field-manager=other", "-f", "-")
    told = space.fails(*other, text=config_map("a", k="2"))
    assert 'Apply failed with 1 conflict: conflict with "kubectl": .data.k' in told
    space(*other[:-2], "--force-conflicts", "-f", "-", text=config_map("a", k="2"))
    space("apply", "--server-side", "-f", "-", text=config_map("a", l="1"))
    assert json.loads(space("get", "cm", "a", "-o", "json"))["data"] == {"k": "2", "l": "1"}
    shown = ("--show-managed-fields",) if kubectl.version >= (1, 21) else ()
    obj = json.loads(space("get", "cm", "a", "-o", "json", *shown))
    managers = obj["metadata"]["managedFields"]
    assert {m["manager"]: list(m["fieldsV1"].get("f:data", {})) for m in managers} == {
        "kubectl": ["f:l"],
        "other": ["f:k"],
    }


def test_client_side_apply_becomes_server_side(space) -> None:
    space("apply", "-f", "-", text=config_map("a", k="1"))
    assert space("apply", "--server-side", "-f", "-", text=config_map("a", k="2")) == "configmap/a serverside-applied\n"  # fmt: skip
    assert space("get", "cm", "a", "-o", "jsonpath={.data.k}") == "2"


def test_patch_label_annotate(space) -> None:
    space("create", "-f", "-", text=config_map("a", k="1"))
    space("patch", "cm", "a", "-p", '{"data":{"s":"1"}}')
    space("patch", "cm", "a", "--type=merge", "-p", '{"data":{"k":null,"m":"1"}}')
    space("patch", "cm", "a", "--type=json", "-p", '[{"op":"add","path":"/data/j","value":"1"}]')
    assert json.loads(space("get", "cm", "a", "-o", "json"))["data"] == {
        "s": "1",
        "m": "1",
        "j": "1",
    }
    assert space("label", "cm", "a", "app-").endswith("labeled\n")
    assert space("label", "cm", "a", "new=1") == "configmap/a labeled\n"
    assert space("annotate", "cm", "a", "note=hi").startswith("configmap/a annotate")
    metadata = json.loads(space("get", "cm", "a", "-o", "json"))["metadata"]
    assert (metadata["labels"], metadata["annotations"]) == (
        {"tier": "a", "new": "1"},
        {"note": "hi"},
    )


def test_set_changes_templates_and_images(space) -> None:
    space("apply", "-f", "-", text=pod("s"))
    space("set", "image", "pod/s", "app=busybox:1.36.1")
    assert (
        space("get", "pod", "s", "-o", "jsonpath={.spec.containers[0].image}") == "busybox:1.36.1"
    )
    dry = "--dry-run=client -o yaml"
    printed = space.each([f"set env pod/s A=b {dry}", f"set resources pod/s --limits=cpu=1 {dry}"])
    env, amounts = (yaml.safe_load(p)["spec"]["containers"][0] for p in printed)
    assert env["env"] == [{"name": "A", "value": "b"}]
    assert amounts["resources"]["limits"] == {"cpu": "1"}
    space("delete", "pod", "s", "--force", "--grace-period=0")


def test_what_is_wrong_is_told_by_kubernetes_words(kubectl) -> None:
    bad = pod("bad").replace("image:", "imagee:")
    if kubectl.version >= (1, 27):
        told = kubectl.fails("create", "--validate=strict", "-f", "-", text=bad)
        assert 'strict decoding error: unknown field "spec.containers[0].imagee"' in told
    else:  # it reads our OpenAPI itself
        told = kubectl.fails("create", "-f", "-", text=bad)
        assert 'unknown field "imagee" in io.k8s.api.core.v1.Container' in told
    told = kubectl.fails("create", "-f", "-", text=pod("Bad_Name"))
    assert 'The Pod "Bad_Name" is invalid' in told
    assert "metadata.name: Invalid value" in told
    assert 'configmaps "nosuch" not found' in kubectl.fails("get", "cm", "nosuch")


# -- nodes, deletion


def test_cordon_and_taint(kubectl) -> None:
    node = kubectl("get", "nodes", "-o", "name").strip()
    bare = node.removeprefix("node/")
    assert kubectl("cordon", node) == f"{node} cordoned\n"
    assert "Ready,SchedulingDisabled" in kubectl("get", "nodes")
    assert kubectl("uncordon", node) == f"{node} uncordoned\n"
    assert kubectl("taint", "node", bare, "k=v:PreferNoSchedule") == f"{node} tainted\n"
    spec = kubectl.get(node)["spec"]
    assert not spec.get("unschedulable")
    assert spec["taints"] == [{"key": "k", "value": "v", "effect": "PreferNoSchedule"}]
    assert kubectl("taint", "node", bare, "k-") == f"{node} untainted\n"
    assert not kubectl.get(node)["spec"].get("taints")


def test_delete_in_every_way(space) -> None:
    """By name, file, selector, field, all; with each cascade; waited for and not; dry."""
    space("create", "-f", "-", text="---\n".join(config_map(n) for n in "abcdegh"))
    assert space("delete", "cm", "a", "--dry-run=server") == 'configmap "a" deleted (server dry run)\n'  # fmt: skip
    told = space.each(
        f"delete {words}"
        for words in (
            "cm a", "cm/b --cascade=orphan", "cm -l tier=d", "cm e --cascade=foreground --timeout=30s",
            "cm --field-selector metadata.name=g", "cm h --now", "cm nosuch --ignore-not-found",
        )
    )  # fmt: skip
    assert "".join(told) == "".join(f'configmap "{n}" deleted\n' for n in "abdegh")
    assert space("delete", "-f", "-", "--ignore-not-found", text=config_map("c")) == 'configmap "c" deleted\n'  # fmt: skip
    assert space("get", "cm", "-l", "app", "-o", "name") == ""
    waiting = config_map("f").replace("metadata:", "metadata:\n  finalizers: [example.com/hold]")
    space("create", "-f", "-", text=waiting)
    assert 'configmap "f" deleted' in space("delete", "cm", "--all", "--wait=false")
    assert space("get", "cm", "f", "-o", "jsonpath={.metadata.deletionTimestamp}")
    free = '[{"op":"remove","path":"/metadata/finalizers"}]'
    space("patch", "cm", "f", "--type=json", "-p", free)
    if space.version >= (1, 22):  # older ones fail when it is gone already
        space("wait", "cm/f", "--for=delete", "--timeout=30s")
    assert space("get", "cm", "f", "--ignore-not-found") == ""
