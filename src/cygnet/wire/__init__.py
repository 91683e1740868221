"""Octets to messages and back, without meaning: no state, no policy, no cryptography.

Any octets either decode or raise `WireError`, in time linear in their number. Start at `cygnet.wire.message`.
"""
