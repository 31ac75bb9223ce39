"""The pods' network: addresses, the bridge, veth pairs, masquerade, host ports.

    pod eth0 --- veth --- <instance>0 (bridge, the pods' gateway) --- forwarding, masquerade --- outside

`network.Network` is the face. It owns every link, nftables table, lease and route of its instance, and does not own
the pods' namespaces: the runtime makes and pins those, and they come here as descriptors.

    a node    bridge (over pyroute2, whose import costs 125 ms: only at a start and a reset), uplink, masquerade
              routes: who else has the pods' addresses
    a pod     ipam: its addresses; veth and shaping: its link, as messages that rtnl packs by hand; portmap: host ports, conntrack
    always    rules_watch: rules that somebody deletes come back

Invariants: a lease is on disk before the link that uses its address; a link's name derives from its sandbox; whatever
fails in between leaves neither. Blocking calls run in one thread of ours, the only one that ever enters a pod's netns.
"""
