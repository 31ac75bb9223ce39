"""How much of a stranger's layer is taken: the bounds that make a hostile image an error instead of a full disk."""

from __future__ import annotations

from dataclasses import dataclass

from minipod.spec.instance import Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one node; settings of the same names (minipod.spec.instance) change them."""

    # bytes that one layer may unpack to: what stops a compression bomb
    image_layer_max: int = 64 << 30
    image_layer_entries: int = 4_000_000  # files of one layer: inodes are finite, too
    # whether layers may hold device nodes; cgroups decide who may open them
    image_devices: bool = True
    image_absolute_names: bool = True  # whether /x may mean x: ko, Nix, kaniko, buildpacks write it


DEFAULT = Limits()


def of_node(instance: Instance) -> Limits:
    """Return the bounds that a node's settings say."""
    return Limits(
        image_layer_max=instance.image_layer_max,
        image_layer_entries=instance.image_layer_entries,
        image_devices=instance.image_devices,
        image_absolute_names=instance.image_absolute_names,
    )
