"""Programs that do the worker's job with other frameworks, for comparison."""
