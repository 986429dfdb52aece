"""Faults while real workers eat real input: `python -m chaos` (with `tests` on the path), or `make chaos`.

Every fault runs the production worker in processes of its own, against a real broker and the real ClickHouse engine
behind a proxy that misbehaves, and compares everything that came out with one undisturbed run of the same input.
"""
