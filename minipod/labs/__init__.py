"""Guided labs that teach namespaces and cgroups with the code that runs the pods. Nothing is here yet."""
