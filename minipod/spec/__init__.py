"""What the runtime is asked to build: frozen dataclasses, JSON in and out, no I/O.

`instance` names a node, `sandbox` and `container` are what the kubelet (or the CRI server) asks for,
`codec` turns any of them into JSON and back, checked.
"""
