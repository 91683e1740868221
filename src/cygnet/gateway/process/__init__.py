"""What a daemon is to its machine: privileges, sockets, signals, limits, a folder, word to the service manager."""
