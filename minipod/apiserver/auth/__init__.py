"""Who may do what over the API.

pki          the node's certificates; `issue` makes them, in a process that exits
listen       TLS on 127.0.0.1 and on the pods' gateway
authn        a request -> UserInfo: root's unix socket, client certificate, service account token (`tokens`, `jwt`)
requestinfo  method and path -> verb, group, resource, namespace, name
rbac         rules, pure; `authorizer` follows roles and bindings in the store; `roles` are the default ones
gate         the middleware that asks them; `reviews` answers questions about them
"""
