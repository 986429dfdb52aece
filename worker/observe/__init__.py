"""Observability: metrics, logs, and the web pages of the running worker."""
