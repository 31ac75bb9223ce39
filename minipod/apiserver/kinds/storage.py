"""PersistentVolumes, their claims, StorageClasses."""

from __future__ import annotations

from typing import Any

from minipod.api import validation_storage as rules
from minipod.api.validation_kinds import immutable
from minipod.apiserver.resources import STATUS, Resource, Strategy
from minipod.apiserver.table import AGE, NAME, Cell, Column, field, printer

Object = dict[str, Any]

MODES = {
    "ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP",
}  # fmt: skip
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


def _modes(path: str) -> Cell:
    """Return the cell of accessModes in short, in a fixed order."""

    def cell(item: Object) -> str:
        given = field(item, f"{path}.accessModes") or []
        return ",".join(short for mode, short in MODES.items() if mode in given)

    return cell


def _phase(item: Object) -> str:
    gone = item["metadata"].get("deletionTimestamp")
    return "Terminating" if gone else str(field(item, "status.phase"))


def _class(item: Object) -> str:
    annotations = item["metadata"].get("annotations") or {}
    return str(annotations.get(_BETA_CLASS) or field(item, "spec.storageClassName"))


def _claim(volume: Object) -> str:
    claim = (volume.get("spec") or {}).get("claimRef")
    return f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else ""


def _when_bound(cell: Cell) -> Cell:
    """What a claim has is told only when it is bound."""
    return lambda item: cell(item) if field(item, "spec.volumeName") else ""


def _class_name(item: Object) -> str:
    annotations = item["metadata"].get("annotations") or {}
    default = any(annotations.get(k) == "true" for k in _DEFAULT_CLASS)
    return str(item["metadata"]["name"]) + (" (default)" if default else "")


_CLASS_COLUMNS = (
    Column("StorageClass", _class),
    Column("VolumeAttributesClass", "spec.volumeAttributesClassName", "<unset>"),
)
_MODE = Column("VolumeMode", "spec.volumeMode", "<unset>", wide=True)


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
    printer=printer(
        NAME, Column("Capacity", "spec.capacity.storage"), Column("Access Modes", _modes("spec")),
        Column("Reclaim Policy", "spec.persistentVolumeReclaimPolicy"), Column("Status", _phase), Column("Claim", _claim),
        *_CLASS_COLUMNS, Column("Reason", "status.reason"), AGE, _MODE,
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
    printer=printer(
        NAME, Column("Status", _phase), Column("Volume", "spec.volumeName"),
        Column("Capacity", _when_bound(lambda i: field(i, "status.capacity.storage"))),
        Column("Access Modes", _when_bound(_modes("status"))), *_CLASS_COLUMNS, AGE, _MODE,
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
        validate_update=immutable(
            "parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"
        ),
    ),
    printer=printer(
        Column("Name", _class_name), Column("Provisioner", "provisioner"), Column("ReclaimPolicy", "reclaimPolicy", "Delete"),
        Column("VolumeBindingMode", "volumeBindingMode", "<unset>"),
        Column("AllowVolumeExpansion", "allowVolumeExpansion", "false"), AGE,
    ),
)  # fmt: skip

RESOURCES = (VOLUME, CLAIM, STORAGE_CLASS)
