"""Pure state: session lifecycle, user history, late events put in order."""
