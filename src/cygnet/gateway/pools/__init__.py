"""Virtual addresses: who leases, gives, lends and takes them back."""
