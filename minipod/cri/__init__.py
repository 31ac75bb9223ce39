"""A CRI server over `minipod.runtime`: conversion, error mapping, filters. Nothing is here yet."""
