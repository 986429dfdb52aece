"""`python -m worker.cli`: the command, where it is not on the path."""

from __future__ import annotations

from worker.cli import main

main()
