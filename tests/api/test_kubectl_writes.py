"""kubectl's commands that change objects, with every kubectl: create, apply, patch, set, delete, and what nodes get."""

from __future__ import annotations

import json

import yaml

from tests.kubectl import config_map, pod


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
    # older ones want kinds that 1.32 has no more
    every = () if kubectl.version >= (1, 25) else listed
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
