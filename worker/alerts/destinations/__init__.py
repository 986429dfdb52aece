"""Destinations, one file a kind: each makes requests or messages from alerts, and reads what comes back."""
