"""Programs: each file puts the parts of one together."""
