"""Controllers of workloads, one small file per kind. Nothing is here yet: pods are applied one by one."""
