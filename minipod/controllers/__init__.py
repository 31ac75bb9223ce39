"""Controllers: each brings the world a little nearer to what the objects of one kind say. One small file each.

    controller   the base: informers tell keys, a queue keeps them, `reconcile` looks at one key at a time
    manager      makes all of them and runs them: a new controller is a file and a line there
    kinds        which kinds there are, for those that concern all: namespaces, garbage
    others       serviceaccounts, token_secrets, certificates, clusterroles, volumes (selectors), taints, events

They know the store's Protocol only, never HTTP; what one of them needs beyond it (the kinds there are, the CA) is handed over by the
composition root. A reconcile looks at what is, not at what happened: it may be called at any time, and again.
"""
