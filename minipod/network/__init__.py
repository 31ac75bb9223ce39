"""The pods' network: addresses, the bridge, veth pairs, masquerade, resolv.conf and hosts texts.

    pod eth0 --- veth --- <instance>0 (bridge, the pods' gateway) --- forwarding, masquerade --- outside

`network.Network` is the face. It owns every link, nftables table, lease and route of its instance, and does not own
the pods' namespaces: those are made and pinned by the supervisor and come here as descriptors. `ipam` and `resolv`
are pure but for their files, `rtnl` packs netlink messages by hand (the per-pod path), `bridge` uses pyroute2
(start, recover and leaks: import costs 125 ms, so only there, lazily).

Invariants: a lease is on disk before the link that uses its address; a link's name derives from its sandbox; whatever
fails in between leaves neither. Blocking calls run in one thread of ours, the only one that ever enters a pod's netns.
"""
