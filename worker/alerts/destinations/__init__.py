"""Destinations, one file for each kind: each builds requests or messages from alerts and interprets the answers."""
