"""Algorithms as tables of one row each, key exchange, key derivation, and the protection of packets."""
