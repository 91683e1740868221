"""Inner packets in a worker: on their way to the host and from it, and when no CHILD_SA is there for them."""
