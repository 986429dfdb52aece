"""`sessionwatch map`: how records of other identity systems are read."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer

from worker.apps.errors import CheckFailedError
from worker.cli.common import Json, output, print_json, settings_of

if TYPE_CHECKING:
    from worker.apps.map import Checked

MOST_REJECTED = 10
"""Rejected records that are shown one by one."""
app = typer.Typer(help="How records of other identity systems are read.", no_args_is_help=True)


@app.command("list")
def list_(*, as_json: Json = False) -> None:
    """List the built-in mappings."""
    from schemas.mappings import builtin  # noqa: PLC0415  `--help` needs none of it

    found = [each.document for each in builtin().values()]
    if as_json:
        print_json({"mappings": [{"name": each.name, "title": each.title, "source": each.source} for each in found]})
        return
    for each in found:
        output(f"{each.name:14} {each.title}")


@app.command()
def check(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="Records: JSON lines, or one JSON document; `-` is stdin.", allow_dash=True)
    ],
    *,
    mapping: Annotated[
        str | None, typer.Option(help="Name of a built-in mapping, or path of a file; default: input.mapping.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Tenant of records that name none.")] = None,
    as_json: Json = False,
) -> None:
    """Show what each field of a source becomes and what is missing; fails when a record is rejected."""
    from worker.apps import map as program  # noqa: PLC0415  `--help` needs none of it

    document = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    found = program.check_document(settings_of(context), document, mapping, tenant)
    rejected = sum(each.result == "rejected" for each in found)
    if as_json:
        print_json({"ok": not rejected, "records": [each.as_json() for each in found]})
    else:
        _show(found)
    if rejected:
        raise CheckFailedError(f"{rejected} of {len(found)} records cannot be used")


def _show(found: list[Checked]) -> None:
    """Print records; of the rejected ones the first `MOST_REJECTED`."""
    rejected = 0
    for each in found:
        rejected += each.result == "rejected"
        if each.result != "rejected" or rejected <= MOST_REJECTED:
            output(_text(each))
    if rejected > MOST_REJECTED:
        output(f"{rejected - MOST_REJECTED:,} more rejected records are not shown")


def _text(record: Checked) -> str:
    head = f"record {record.number}: {record.result}"
    if record.reason:
        return f"{head}, {record.reason}{f' ({record.field})' if record.field else ''}"
    lines = [f"{head}, read as {record.shape}"]
    width = max(len(each.name) for each in record.properties)
    for each in record.properties:
        note = f"({each.note})" if each.note and each.value else f"- {each.note}" if each.note else ""
        lines.append(f"  {each.name:{width}}  {' '.join(part for part in (each.value, note) if part)}")
    return "\n".join(lines)
