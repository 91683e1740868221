"""What the supervisor changes in this host's network for the tunnels of workers: devices, addresses, routes, rules."""
