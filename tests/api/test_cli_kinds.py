"""Our own command line works on every kind that the API serves, by each of its names."""

from __future__ import annotations

MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: of-cli}
data: {a: b}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: of-cli}
rules: []
"""


def test_apply_get_and_delete_of_other_kinds(node) -> None:
    made = node.run("apply", "-f", "-", text=MANIFEST).stdout.splitlines()
    assert made == ["configmap/of-cli created", "clusterrole/of-cli created"]
    again = node.run("apply", "-f", "-", text=MANIFEST).stdout.splitlines()
    assert again == ["configmap/of-cli unchanged", "clusterrole/of-cli unchanged"]
    for word in ("cm", "configmap", "configmaps", "ConfigMap"):
        assert "of-cli" in node.run("get", word).stdout
    assert "of-cli" in node.run("get", "clusterroles").stdout
    assert "a: b" in node.run("get", "cm", "of-cli", "-o", "yaml").stdout
    node.run("delete", "-f", "-", text=MANIFEST)
    assert "of-cli" not in node.run("get", "cm").stdout
    told = node.run("get", "frob", check=False)
    assert 'doesn\'t have a resource type "frob"' in told.stderr
    assert "configmaps" in told.stderr


def test_delete_chooses_by_labels(node) -> None:
    both = "\n---\n".join(
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{of: {of}}}}}"
        for name, of in (("one", "cli"), ("two", "cli"), ("three", "others"))
    )
    node.run("apply", "-f", "-", text=both)
    told = node.run("delete", "cm", "-l", "of=cli").stdout
    assert told == 'configmap "one" deleted\nconfigmap "two" deleted\n'
    again = node.run("delete", "cm", "-l", "of=cli")
    assert (again.stdout, again.stderr) == ("", "No resources found\n")
    assert node.run("delete", "cm", "-l", "of").stdout == 'configmap "three" deleted\n'
