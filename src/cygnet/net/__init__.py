"""The sockets: opening them, steering datagrams between workers, receiving in batches, sending."""
