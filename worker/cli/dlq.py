"""`sessionwatch dlq`: list, show and replay dead letters."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Annotated

import typer

from schemas.text import printable_lines
from worker.cli.common import Json, output, print_json, say, settings_of

app = typer.Typer(help="Dead letters.", no_args_is_help=True)
Reason = Annotated[str, typer.Option("--reason", help="Only dead letters with this reason.")]
Limit = Annotated[int, typer.Option(min=1, help="Show at most this many, the newest.")]


@app.command("list")
def list_(context: typer.Context, *, reason: Reason = "", limit: Limit = 50, as_json: Json = False) -> None:
    """List dead letters: id, reason, field and source of each."""
    from worker.apps import dlq as program  # noqa: PLC0415  `--help` needs none of it

    found = program.dead_letters(settings_of(context), reason)
    counts = Counter(letter.reason for letter in found)
    shown = found[-limit:]
    if as_json:
        print_json({"letters": [letter.as_json() for letter in shown], "counts": counts})
        return
    for letter in shown:
        topic, partition, offset = letter.origin
        source = f"{topic}/{partition}:{offset}"
        output(f"{letter.uid:12} {letter.reason:16} {letter.field:20} {source}  {letter.message}")
    say(", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())) or "no dead letters")


@app.command()
def show(context: typer.Context, *, letter: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET")]) -> None:
    """Print the original bytes of a dead letter (made printable on a terminal); the reason goes to stderr."""
    from worker.apps import dlq as program  # noqa: PLC0415  `--help` needs none of it

    found = program.find(settings_of(context), letter)
    say(f"{found.reason} {found.field}: {found.message}")
    value = found.value or b""
    if sys.stdout.isatty():
        value = printable_lines(value.decode(errors="replace")).encode()
    sys.stdout.buffer.write(value)
    sys.stdout.buffer.flush()


@app.command()
def replay(
    context: typer.Context,
    *,
    letters: Annotated[list[str] | None, typer.Argument(metavar="[PARTITION:OFFSET]...")] = None,
    reason: Reason = "",
    everything: Annotated[bool, typer.Option("--all", help="Replay all dead letters.")] = False,
    as_json: Json = False,
) -> None:
    """Publish dead letters again as events; those that still cannot be used stay. Running it twice is harmless."""
    from worker.apps import dlq as program  # noqa: PLC0415  `--help` needs none of it

    if not (letters or reason or everything):
        raise typer.BadParameter("name letters, a reason, or --all")
    done = program.replay(settings_of(context), letters or (), reason)
    if as_json:
        print_json({"sent": done.sent, "left": [letter.as_json() for letter in done.left]})
    else:
        say(f"{done.sent:,} replayed, {len(done.left):,} still cannot be used")
