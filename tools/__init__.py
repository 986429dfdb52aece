"""Tools that only the repository needs."""
