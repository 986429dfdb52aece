"""What only the repository needs."""
