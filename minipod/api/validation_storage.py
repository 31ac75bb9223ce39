"""Validation of PersistentVolumes, their claims and StorageClasses, in Kubernetes' words (ValidatePersistentVolume,
ValidatePersistentVolumeClaim, ValidateStorageClass)."""

from __future__ import annotations

from minipod.api import quantity, validation_placement
from minipod.api.messages import Errors, Object, forbidden, invalid, required, unsupported
from minipod.api.metadata import name_words
from minipod.api.validation_kinds import choice

VOLUME_FIELDS = (
    "accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy",
    "storageClassName", "volumeAttributesClassName", "volumeMode",
)  # fmt: skip
_MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")


def _modes(spec: Object) -> Errors:
    modes = spec.get("accessModes") or []
    if not modes:
        yield required("spec.accessModes", "at least 1 access mode is required")
    for mode in modes:
        if mode not in _MODES:
            yield unsupported("spec.accessModes", mode, _MODES)
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        yield forbidden("spec.accessModes", "may not use ReadWriteOncePod with other access modes")
    yield from choice(spec, "volumeMode", ("Block", "Filesystem"), "spec")


def _storage(amounts: Object, path: str) -> Errors:
    value = amounts.get("storage")
    if value is None:
        yield required(path)
    elif quantity.parse(value) <= 0:
        yield invalid(path, value, "must be greater than zero")


def validate_volume(item: Object) -> Errors:
    spec = item.get("spec") or {}
    yield from _modes(spec)
    yield from _storage(spec.get("capacity") or {}, "spec.capacity[storage]")
    sources = [k for k in spec if k not in VOLUME_FIELDS]
    if not sources:
        yield required("spec", "must specify a volume type")
    for extra in sources[1:]:
        yield forbidden(f"spec.{extra}", "may not specify more than 1 volume type")
    yield from choice(
        spec, "persistentVolumeReclaimPolicy", ("Delete", "Recycle", "Retain"), "spec"
    )
    if "local" in spec and not spec.get("nodeAffinity"):
        yield required("spec.nodeAffinity", "Local volume requires node affinity")
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        if affinity.get("required") is None:
            yield required("spec.nodeAffinity.required", "must specify required node constraints")
        else:
            yield from validation_placement.node_selector(
                affinity["required"], "spec.nodeAffinity.required"
            )
    for source in ("hostPath", "local"):
        path = (spec.get(source) or {}).get("path")
        if source in spec and not path:
            yield required(f"spec.{source}.path")
        elif path and ".." in path.split("/"):
            yield invalid(f"spec.{source}.path", path, "must not contain '..'")


def validate_volume_update(wanted: Object, current: Object) -> Errors:
    new, old = wanted.get("spec") or {}, current.get("spec") or {}
    for name in (*[k for k in {**new, **old} if k not in VOLUME_FIELDS], "volumeMode"):
        if new.get(name) != old.get(name):
            yield forbidden(
                "spec.persistentvolumesource",
                "spec.persistentvolumesource is immutable after creation",
            )


def validate_claim(item: Object) -> Errors:
    spec = item.get("spec")
    if spec is None:
        yield required("spec")
        return
    yield from _modes(spec)
    requests = (spec.get("resources") or {}).get("requests") or {}
    yield from _storage(requests, "spec.resources[storage]")
    name = spec.get("storageClassName")
    if name and (words := name_words(name, "subdomain")):
        yield invalid("spec.storageClassName", name, words)


_CLAIM_WORDS = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"


def validate_claim_update(wanted: Object, current: Object) -> Errors:
    new, old = wanted.get("spec") or {}, current.get("spec") or {}

    def fixed(spec: Object) -> Object:
        kept = {
            k: v for k, v in spec.items() if k not in ("resources", "volumeAttributesClassName")
        }
        if "volumeName" not in old:
            kept.pop("volumeName", None)  # the binder writes it
        return kept

    if fixed(new) != fixed(old):
        yield forbidden("spec", _CLAIM_WORDS)


def validate_storage_class(item: Object) -> Errors:
    if not item.get("provisioner"):
        yield required("provisioner")
    yield from choice(item, "reclaimPolicy", ("Delete", "Retain"), "")
    yield from choice(item, "volumeBindingMode", ("Immediate", "WaitForFirstConsumer"), "")
