"""The built-in detections: one file a rule, and nothing else."""
