"""What the supervisor does on this host for CHILD_SAs of workers: updown scripts, and DNS servers that peers name."""
