"""Pure state: session lifecycle, baselines of users, correlation, incidents."""
