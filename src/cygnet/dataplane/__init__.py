"""Who carries the traffic of CHILD_SAs: our own ESP, with a TUN device or an inner echo behind it, or nobody."""
