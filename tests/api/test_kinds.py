"""Every kind is shown by every kubectl as Kubernetes shows it."""

from __future__ import annotations

import re

COLUMNS = {
    "configmaps": "NAME DATA AGE",
    "secrets": "NAME TYPE DATA AGE",
    "serviceaccounts": "NAME SECRETS AGE",
    "namespaces": "NAME STATUS AGE",
    "nodes": "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME",
    "persistentvolumes": "NAME CAPACITY ACCESS_MODES RECLAIM_POLICY STATUS CLAIM STORAGECLASS VOLUMEATTRIBUTESCLASS"
    " REASON AGE VOLUMEMODE",
    "persistentvolumeclaims": "NAME STATUS VOLUME CAPACITY ACCESS_MODES STORAGECLASS VOLUMEATTRIBUTESCLASS AGE VOLUMEMODE",
    "storageclasses": "NAME PROVISIONER RECLAIMPOLICY VOLUMEBINDINGMODE ALLOWVOLUMEEXPANSION AGE",
    "priorityclasses": "NAME VALUE GLOBAL-DEFAULT AGE",
    "runtimeclasses": "NAME HANDLER AGE",
    "limitranges": "NAME CREATED_AT",
    "leases": "NAME HOLDER AGE",
    "roles": "NAME CREATED_AT",
    "rolebindings": "NAME ROLE AGE USERS GROUPS SERVICEACCOUNTS",
    "podtemplates": "NAME CONTAINERS IMAGES POD_LABELS",
}

EXAMPLES = """
apiVersion: v1
kind: Secret
metadata: {name: x}
stringData: {a: b}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: x}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  hostPath: {path: /x}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: x}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: none
  resources:
    requests: {storage: 1Gi}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: x}
provisioner: example.com/x
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: x}
value: 5
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: x}
handler: x
---
apiVersion: v1
kind: LimitRange
metadata: {name: x}
spec:
  limits:
  - type: Container
    max: {cpu: '2'}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: x}
spec: {holderIdentity: me}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: x}
rules:
- apiGroups: ['']
  resources: [pods]
  verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: x}
roleRef: {kind: Role, name: x, apiGroup: rbac.authorization.k8s.io}
subjects:
- {kind: User, name: u}
---
apiVersion: v1
kind: PodTemplate
metadata: {name: x}
template:
  spec:
    containers:
    - {name: c, image: i}
"""


def test_every_kind_has_kubernetes_columns_and_a_description(space) -> None:
    """In one command each, which shows all kinds."""
    space("create", "-f", "-", text=EXAMPLES)
    try:
        shown = space("get", ",".join(COLUMNS), "-o", "wide").split("\n\n")
        headers = [table.splitlines()[0].split() for table in shown if table]
        assert headers == [c.replace("_", " ").split() for c in COLUMNS.values()]
        told = space("describe", ",".join(COLUMNS))
        assert len(re.findall(r"^Name: ", told, re.MULTILINE)) >= len(COLUMNS)
    finally:
        space("delete", "--timeout=30s", "-f", "-", text=EXAMPLES)
