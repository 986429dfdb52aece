"""The zero-install broker and store behind `demo`, `replay` and the tests. Production imports nothing of it."""
