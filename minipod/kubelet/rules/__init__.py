"""What a pod must do: pure functions from values to values, `now` always an argument.

No clock, no I/O, no asyncio (import-linter checks it). Each module is one rule of the kubelet, with
its source: K8S is the Kubernetes tree, 1.20.2 unless said otherwise.
"""
