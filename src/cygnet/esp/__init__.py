"""ESP without sockets and clocks: what one SA does to one packet (RFC 4303)."""
