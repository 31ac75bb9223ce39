"""Who may do what over the API.

pki          keeps certificates; `issue` makes them, in a process that exits; `certificates` says which there are
signing      certificates that users ask for: who may, and the CA's signature (`sign`, in a process that exits, too)
kubeconfig   the administrator's, and those of other users
listen       TLS on 127.0.0.1 and on the pods' gateway; `ports` says where
authn        a request -> UserInfo (`user`): root's unix socket, client certificate, service account token (`tokens`, `jwt`)
rbac         rules, pure; `authorizer` follows roles and bindings in the store; `roles` are the default ones
escalation   nobody grants what he does not have
gate         the middleware that asks them (and `impersonation`); `reviews` answers questions about them
"""
