"""Benchmarks that anyone can repeat: minipod and its peers in one run, alternating, on the same images and manifests.

    row.py       what a row is: one small module in `rows/`, found by its name
    bench.py     what rows share: a node of ours, a private directory, the images as OCI layout
    peers/       how containerd, podman, runc and crun are driven, each in a private place
    run.py       alternates the sides of a row and collects samples
    report.py    results.json -> results.md and one SVG per row

Absolute figures of a shared machine are worth little: read the ratios, which are taken pair by pair.
"""
