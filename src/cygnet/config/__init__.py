"""Configuration: `swanctl.conf` syntax in, typed settings out."""
