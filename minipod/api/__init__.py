"""Kubernetes objects: the field table and its walker, quantities, defaults, validation, selectors, and the store's face.

Objects are plain dicts, validated and kept whole. No I/O but `unix_http`, the small client of the node's own socket.
"""
