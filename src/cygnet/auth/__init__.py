"""What proves an identity: names, secrets, and the AUTH payload computed from them."""
