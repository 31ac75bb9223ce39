"""PersistentVolumes, their claims, StorageClasses."""

from __future__ import annotations

from typing import Any

from minipod.api import validation_kinds as rules
from minipod.apiserver.resources import STATUS, Printer, Resource, Strategy
from minipod.apiserver.table import created

Object = dict[str, Any]

MODES = {
    "ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP",
}  # fmt: skip
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


def modes(item: Object) -> str:
    """Return accessModes in short, in a fixed order."""
    given = item.get("accessModes") or []
    return ",".join(short for mode, short in MODES.items() if mode in given)


def _phase(item: Object) -> str:
    gone = item["metadata"].get("deletionTimestamp")
    return "Terminating" if gone else (item.get("status") or {}).get("phase", "")


def _class(item: Object) -> str:
    annotations = item["metadata"].get("annotations") or {}
    name = annotations.get(_BETA_CLASS) or (item.get("spec") or {}).get("storageClassName", "")
    return str(name)


def volume_row(item: Object) -> list[Any]:
    """Return the cells of a PersistentVolume."""
    spec = item.get("spec") or {}
    claim = spec.get("claimRef")
    return [
        item["metadata"]["name"], (spec.get("capacity") or {}).get("storage", ""), modes(spec),
        spec.get("persistentVolumeReclaimPolicy", ""), _phase(item),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "", _class(item),
        spec.get("volumeAttributesClassName") or "<unset>", (item.get("status") or {}).get("reason", ""),
        created(item), spec.get("volumeMode") or "<unset>",
    ]  # fmt: skip


def claim_row(item: Object) -> list[Any]:
    """Return the cells of a PersistentVolumeClaim: capacity and modes only when bound."""
    spec, status = item.get("spec") or {}, item.get("status") or {}
    bound = bool(spec.get("volumeName"))
    return [
        item["metadata"]["name"], _phase(item), spec.get("volumeName", ""),
        (status.get("capacity") or {}).get("storage", "") if bound else "", modes(status) if bound else "",
        _class(item), spec.get("volumeAttributesClassName") or "<unset>", created(item), spec.get("volumeMode") or "<unset>",
    ]  # fmt: skip


def class_row(item: Object) -> list[Any]:
    """Return the cells of a StorageClass."""
    annotations = item["metadata"].get("annotations") or {}
    default = any(annotations.get(k) == "true" for k in _DEFAULT_CLASS)
    return [
        item["metadata"]["name"] + (" (default)" if default else ""), item.get("provisioner", ""),
        item.get("reclaimPolicy", "Delete"), item.get("volumeBindingMode") or "<unset>",
        str(item.get("allowVolumeExpansion", False)).lower(), created(item),
    ]  # fmt: skip


def _default_volume(item: Object) -> None:
    spec = item.setdefault("spec", {})
    spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
    spec.setdefault("volumeMode", "Filesystem")


def _default_claim(item: Object) -> None:
    item.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")


def _prepare(item: Object) -> None:
    item["status"] = {"phase": "Pending"}


def _default_class(item: Object) -> None:
    item.setdefault("reclaimPolicy", "Delete")
    item.setdefault("volumeBindingMode", "Immediate")


VOLUME = Resource(
    plural="persistentvolumes",
    kind="PersistentVolume",
    type="core.v1.PersistentVolume",
    namespaced=False,
    short_names=("pv",),
    returns_deleted=True,
    subresources=(STATUS,),
    strategy=Strategy(
        default=_default_volume,
        prepare=_prepare,
        validate=rules.validate_volume,
        validate_update=rules.validate_volume_update,
    ),
    printer=Printer(
        columns=(
            ("Name", 0), ("Capacity", 0), ("Access Modes", 0), ("Reclaim Policy", 0), ("Status", 0), ("Claim", 0),
            ("StorageClass", 0), ("VolumeAttributesClass", 0), ("Reason", 0), ("Age", 0), ("VolumeMode", 1),
        ),
        row=volume_row,
    ),
)  # fmt: skip

CLAIM = Resource(
    plural="persistentvolumeclaims",
    kind="PersistentVolumeClaim",
    type="core.v1.PersistentVolumeClaim",
    short_names=("pvc",),
    returns_deleted=True,
    subresources=(STATUS,),
    strategy=Strategy(
        default=_default_claim,
        prepare=_prepare,
        validate=rules.validate_claim,
        validate_update=rules.validate_claim_update,
    ),
    printer=Printer(
        columns=(
            ("Name", 0), ("Status", 0), ("Volume", 0), ("Capacity", 0), ("Access Modes", 0), ("StorageClass", 0),
            ("VolumeAttributesClass", 0), ("Age", 0), ("VolumeMode", 1),
        ),
        row=claim_row,
    ),
)  # fmt: skip

STORAGE_CLASS = Resource(
    plural="storageclasses",
    kind="StorageClass",
    type="storage.v1.StorageClass",
    group="storage.k8s.io",
    namespaced=False,
    short_names=("sc",),
    returns_deleted=True,
    strategy=Strategy(
        default=_default_class,
        validate=rules.validate_storage_class,
        validate_update=rules.immutable(
            "parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"
        ),
    ),
    printer=Printer(
        columns=(
            ("Name", 0), ("Provisioner", 0), ("ReclaimPolicy", 0), ("VolumeBindingMode", 0),
            ("AllowVolumeExpansion", 0), ("Age", 0),
        ),
        row=class_row,
    ),
)  # fmt: skip

RESOURCES = (VOLUME, CLAIM, STORAGE_CLASS)
