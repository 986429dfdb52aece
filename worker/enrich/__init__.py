"""What can be known of an address, a place and a client, offline."""
