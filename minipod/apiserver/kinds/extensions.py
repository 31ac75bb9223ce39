"""Custom resources: there are none yet. kubectl asks for the list of their definitions before it creates what it can't patch
(reviews), and must learn that it is empty.
"""

from __future__ import annotations

from minipod.apiserver.resources import Resource

RESOURCES = (
    Resource(
        plural="customresourcedefinitions",
        kind="CustomResourceDefinition",
        type="",
        group="apiextensions.k8s.io",
        namespaced=False,
        short_names=("crd", "crds"),
        verbs=("get", "list", "watch"),
    ),
)
