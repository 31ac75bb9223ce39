"""The default roles and bindings, with the names that Kubernetes gives them (`kubectl create rolebinding --clusterrole=view` means one).


Made at every start: what is missing is added, what an operator added stays; one whose annotation autoupdate is "false" is left alone
(kubernetes.io/docs/reference/access-authn-authz/rbac, "Auto-reconciliation"). Rules about groups that minipod does not serve yet are
here too: a role says what may be done, not what can be.
"""

from __future__ import annotations

from typing import Any

from minipod.api.store import Object, Store
from minipod.apiserver.auth import rbac
from minipod.apiserver.auth.rbac import Rule
from minipod.apiserver.auth.user import AUTHENTICATED, MASTERS, UNAUTHENTICATED
from minipod.errors import NotFound

GROUP = "rbac.authorization.k8s.io"
AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"

READ = "get list watch"
WRITE = "create delete deletecollection patch update"
ANY = f"{READ} {WRITE}"
CORE = "-"  # the group without a name

HEALTH = "/healthz /livez /readyz"

# Role -> rules, a line each: verbs | groups | resources, or verbs | paths.
RULES: dict[str, str] = {
    "cluster-admin": """
        * | * | *
        * | *""",
    "system:discovery": f"get | {HEALTH} /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*",
    "system:public-info-viewer": f"get | {HEALTH} /version /version/",
    "system:monitoring": f"get | {HEALTH} /livez/* /readyz/* /healthz/* /metrics /metrics/probes",
    "system:basic-user": """
        create | authorization.k8s.io | selfsubjectaccessreviews selfsubjectrulesreviews
        create | authentication.k8s.io | selfsubjectreviews""",
    "system:auth-delegator": """
        create | authentication.k8s.io | tokenreviews
        create | authorization.k8s.io | subjectaccessreviews""",
    "system:aggregate-to-admin": f"""
        create | authorization.k8s.io | localsubjectaccessreviews
        {ANY} | {GROUP} | roles rolebindings""",
    "system:aggregate-to-edit": f"""
        {READ} | - | pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy
        {WRITE} | - | pods pods/attach pods/proxy pods/exec pods/portforward
        create | - | pods/eviction serviceaccounts/token
        impersonate | - | serviceaccounts
        {WRITE} | - | configmaps events persistentvolumeclaims secrets serviceaccounts services services/proxy
        {WRITE} | - | replicationcontrollers replicationcontrollers/scale
        {WRITE} | apps | daemonsets deployments deployments/rollback deployments/scale statefulsets statefulsets/scale
        {WRITE} | apps | replicasets replicasets/scale
        {WRITE} | autoscaling | horizontalpodautoscalers
        {WRITE} | batch | cronjobs jobs
        {WRITE} | policy | poddisruptionbudgets
        {WRITE} | networking.k8s.io | ingresses networkpolicies
        {ANY} | coordination.k8s.io | leases""",
    "system:aggregate-to-view": f"""
        {READ} | - | configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods serviceaccounts
        {READ} | - | services services/status replicationcontrollers replicationcontrollers/scale
        {READ} | - | bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status
        {READ} | - | resourcequotas resourcequotas/status namespaces
        {READ} | discovery.k8s.io | endpointslices
        {READ} | apps | controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status
        {READ} | apps | replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status
        {READ} | autoscaling | horizontalpodautoscalers horizontalpodautoscalers/status
        {READ} | batch | cronjobs cronjobs/status jobs jobs/status
        {READ} | policy | poddisruptionbudgets poddisruptionbudgets/status
        {READ} | networking.k8s.io | ingresses ingresses/status networkpolicies""",
    "system:aggregated-metrics-reader": f"{READ} | metrics.k8s.io | nodes pods",
}  # fmt: skip

# Role -> the roles that it is part of, by label. Those of AGGREGATED have no rules but their parts'.
PART_OF = {
    "edit": "admin", "view": "edit", "system:aggregate-to-admin": "admin", "system:aggregate-to-edit": "edit",
    "system:aggregate-to-view": "view", "system:aggregated-metrics-reader": "view",
}  # fmt: skip
AGGREGATED = ("admin", "edit", "view")

# Role -> the groups that it is bound to.
BOUND = {
    "cluster-admin": (MASTERS,),
    "system:discovery": (AUTHENTICATED,),
    "system:basic-user": (AUTHENTICATED,),
    "system:public-info-viewer": (AUTHENTICATED, UNAUTHENTICATED),
    "system:monitoring": ("system:monitoring",),
}


def parse(table: str) -> list[Rule]:
    """Return the rules of one entry of RULES."""
    found = []
    for line in table.strip().splitlines():
        verbs, *rest = (tuple(part.split()) for part in line.split("|"))
        if len(rest) == 1:
            found.append(Rule(verbs=verbs, paths=rest[0]))
        else:
            groups = tuple("" if g == CORE else g for g in rest[0])
            found.append(Rule(verbs=verbs, groups=groups, resources=rest[1]))
    return found


def aggregation_label(role: str) -> str:
    return f"rbac.authorization.k8s.io/aggregate-to-{role}"


def cluster_roles() -> list[Object]:
    """Return the default cluster roles."""
    found = [_object("ClusterRole", name) | {"rules": _rules(name)} for name in RULES]
    for name in AGGREGATED:
        selector = {"matchLabels": {aggregation_label(name): "true"}}
        aggregated = {"aggregationRule": {"clusterRoleSelectors": [selector]}, "rules": []}
        found.append(_object("ClusterRole", name) | aggregated)
    for role in found:
        name = role["metadata"]["name"]
        if name in PART_OF:
            role["metadata"]["labels"][aggregation_label(PART_OF[name])] = "true"
    return found


def cluster_role_bindings() -> list[Object]:
    """Return the default bindings."""
    return [
        _object("ClusterRoleBinding", name)
        | {
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": GROUP, "kind": "Group", "name": g} for g in groups],
        }
        for name, groups in BOUND.items()
    ]


def _object(kind: str, name: str) -> Object:
    metadata = {
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {AUTOUPDATE: "true"},
    }
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": metadata}


def _rules(name: str) -> list[dict[str, Any]]:
    return [rule.to_object() for rule in parse(RULES[name])]


async def bootstrap(store: Store) -> None:
    """Make what is missing of the defaults."""
    for resource, objects in (
        ("clusterroles", cluster_roles()),
        ("clusterrolebindings", cluster_role_bindings()),
    ):
        for wanted in objects:
            try:
                current = await store.get(resource, "", wanted["metadata"]["name"])
            except NotFound:
                await store.create(resource, "", wanted)
                continue
            if (changed := reconciled(current, wanted)) is not None:
                await store.update(resource, "", wanted["metadata"]["name"], changed)


def reconciled(current: Object, wanted: Object) -> Object | None:
    """Return *current* with what it lacks of *wanted*, None when it lacks nothing or is not to be touched."""
    metadata = current["metadata"]
    if (metadata.get("annotations") or {}).get(AUTOUPDATE) != "true":
        return None
    labels = {**(metadata.get("labels") or {}), **wanted["metadata"]["labels"]}
    changed = {**current, "metadata": {**metadata, "labels": labels}}
    if "subjects" in wanted:
        have = current.get("subjects") or []
        changed["subjects"] = have + [s for s in wanted["subjects"] if s not in have]
    else:
        missing = rbac.uncovered(rbac.parse_all(current), rbac.parse_all(wanted))
        have = current.get("rules") or []
        changed["rules"] = have + [rule.to_object() for rule in missing]
    return None if changed == current else changed
