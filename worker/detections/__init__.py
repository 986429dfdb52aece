"""One small file a detection; `catalogue` finds them, `form` says what they are."""
