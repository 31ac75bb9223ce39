"""How each peer is driven: its own root, state and socket in our private directory, ended by its pid."""
