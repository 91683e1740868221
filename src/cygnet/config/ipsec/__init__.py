"""`ipsec.conf` and `ipsec.secrets`, strongSwan's configuration of old, as far as `swanctl.conf` has the same."""
