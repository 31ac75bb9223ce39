"""minipod: a mini kubelet with a container runtime of its own.

ARCHITECTURE.md is the map. Imports only go down its layers; this file imports nothing, so that
every process of ours pays only for what it uses.
"""

__version__ = "0.1.0"
