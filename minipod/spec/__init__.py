"""What the runtime is asked to build: frozen dataclasses, JSON in and out, no I/O.

`instance` names a node, `endpoint` is what a client knows of it, `sandbox` and `container` are what the kubelet (or the CRI server)
asks for, `bundle` what the supervisor builds of it; `ids` are the names that cross layers, `registry` has credentials. `codec` turns any
of them into JSON and back, checked.
"""
