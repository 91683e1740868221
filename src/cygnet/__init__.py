"""Cygnet: an IKEv2/IPsec gateway, and the load tester that measures its set-up rate."""

__version__ = "0.1.0"
