"""`python -m worker.cli`: runs the command when it is not on the path."""

from __future__ import annotations

from worker.cli import main

main()
