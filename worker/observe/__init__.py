"""What operators see: metrics, logs, and pages over the running worker."""
