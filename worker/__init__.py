"""sessionwatch: real-time security analytics for authentication sessions."""
