"""Kubernetes objects: the field table and its walker, quantities, defaults, validation, selectors, and the store's face.

    of every kind    types, types_newer (of Kubernetes, as a table), decoding along it, fields, metadata, meta, messages, descriptions
    a pod's fields   pod_schema, pod_schema_containers, pod_schema_volumes (data), schema walks along them; defaults
    what is valid    validation, for pods, with a file for each part of one:
                     validation_containers, validation_lifecycle, validation_names, validation_network, validation_placement,
                     validation_probes, validation_security, validation_volumes; pod_update, pod_template
                     validation_kinds, for others, with validation_certificates, validation_events, validation_storage
    of our own       tuning, tuning_probes: annotations of pods that minipod reads
    text             yaml_types: YAML with JSON's types
    shared rules     quantity, selectors, placement (taints, affinity), static (pods), apparmor, disruption
    faces            store, informer (over it), tokens, certificates: who implements them is above; unix_http

Objects are plain dicts, validated and kept whole. No I/O but `unix_http`, the small client of the node's own socket.
"""
