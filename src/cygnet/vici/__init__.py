"""strongSwan's control protocol, vici: its codec, a server for it, and its commands."""
