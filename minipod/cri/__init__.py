"""The CRI's gRPC services over the runtime: conversion, error mapping, filters, nothing else.

    messages, messages.txt   the protocol's messages, made from a table at start: runtime.v1, and v1alpha2 for old kubelets
    convert                  configs to specs
    render                   statuses to messages
    runtime_service          RuntimeService: one method for each RPC
    image_service            ImageService
    stats                    cgroup counters as CRI statistics
    streaming                exec, attach and port-forward by one-time URLs on loopback
    errors                   our errors as gRPC codes
    server                   the services under both names; whatever is not implemented answers UNIMPLEMENTED

What a caller asks for is honoured or refused, naming the field; nothing is ignored in silence.
"""
