"""Composition: one module per command, and what they share. Only `worker.cli` may import from here."""
