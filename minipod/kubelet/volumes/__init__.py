"""Volumes of pods: where they are (`directory`), how each kind is made (`host_path`, `empty_dir`, `atomic`, `claims`), who owns them
(`ownership`), and the set-up of a pod's (`setup`), which gives what can be mounted (`mounted`)."""

from minipod.kubelet.volumes.directory import PodDirectory

__all__ = ["PodDirectory"]
