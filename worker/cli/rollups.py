"""`sessionwatch rollups`: rollups held against the events, and filled from them."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import typer

from worker.cli.common import Json, output, print_json, say, settings_of
from worker.cli.errors import CheckFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickhouse_connect.driver.client import Client

app = typer.Typer(help="Check and fill the rollups.", no_args_is_help=True)


@app.command()
def check(context: typer.Context, *, as_json: Json = False) -> None:
    """Hold the rollups against the stored events, all of them; fails when one differs."""
    from worker.clickhouse.rollups import differences  # noqa: PLC0415  `--help` needs none of it

    with _store(context) as client:
        found = differences(client)
    if as_json:
        print_json({"differing": found})
    else:
        for name, count in found.items():
            output(f"{name:20} {count:,} rows differ")
    wrong = [name for name, count in found.items() if count]
    if wrong:
        raise CheckFailedError(
            f"not what the events say: {', '.join(wrong)}; `sessionwatch rollups fill` adds what lacks"
        )


@app.command()
def fill(context: typer.Context) -> None:
    """Put events into the rollups that were stored before these were made; harmless when repeated."""
    from worker.clickhouse import rollups  # noqa: PLC0415  `--help` needs none of it

    with _store(context) as client:
        for name in rollups.fill(client):
            say(f"filled {name}")


@contextmanager
def _store(context: typer.Context) -> Iterator[Client]:
    from worker.apps.embedded import served  # noqa: PLC0415  `--help` needs none of it
    from worker.clickhouse.writer import connect  # noqa: PLC0415

    with (
        served(settings_of(context)) as ready,
        closing(connect(ready.store_dsn(), **ready.store_options())) as client,
    ):
        yield client
