"""The embedded broker and store of `demo`, `replay` and the tests. Production workers do not import it."""
