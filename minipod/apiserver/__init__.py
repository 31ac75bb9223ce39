"""The Kubernetes API of the node over HTTP: routes, admission, patches, tables, watch, exec's channels; and the store on sqlite.

server -> app (routes) -> admission -> store_sqlite -> watch
                       -> streams (logs, exec, attach: what the daemon offers)
"""
