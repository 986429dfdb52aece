"""`sessionwatch dlq`: the dead letters, looked at and put back once what was wrong is mended."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.text import printable_lines
from worker.cli.common import Json, output, print_json, say, settings_of
from worker.cli.errors import CheckFailedError

if TYPE_CHECKING:
    from worker.settings import Settings
    from worker.stream.deadletters import DeadLetter

app = typer.Typer(help="Dead letters.", no_args_is_help=True)
Reason = Annotated[str, typer.Option("--reason", help="Only dead letters with this reason.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many, the newest.")]


@app.command("list")
def list_(context: typer.Context, *, reason: Reason = "", limit: Limit = 50, as_json: Json = False) -> None:
    """List dead letters: where they lie, what is wrong with them, where they came from."""
    found = asyncio.run(_read(settings_of(context), reason))
    counts: dict[str, int] = {}
    for letter in found:
        counts[letter.reason] = counts.get(letter.reason, 0) + 1
    shown = sorted(found, key=lambda letter: letter.time)[-limit:]
    if as_json:
        print_json({"letters": [letter.as_json() for letter in shown], "counts": counts})
        return
    for letter in shown:
        topic, partition, offset = letter.origin
        where = f"{letter.partition}:{letter.offset}"
        output(f"{where:12} {letter.reason:16} {letter.field:20} {topic}/{partition}:{offset}  {letter.message}")
    say(", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())) or "no dead letters")


@app.command()
def show(context: typer.Context, *, letter: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET")]) -> None:
    """Print a dead letter as it came, byte for byte unless stdout is a terminal; the reason goes to stderr."""
    for each in asyncio.run(_read(settings_of(context), "")):
        if f"{each.partition}:{each.offset}" == letter:
            say(f"{each.reason} {each.field}: {each.message}")
            value = each.value or b""
            if sys.stdout.isatty():
                value = printable_lines(value.decode(errors="replace")).encode()
            sys.stdout.buffer.write(value)
            sys.stdout.buffer.flush()
            return
    raise CheckFailedError(f"there is no dead letter {letter}")


@app.command()
def replay(
    context: typer.Context,
    *,
    letters: Annotated[list[str] | None, typer.Argument(metavar="[PARTITION:OFFSET]...")] = None,
    reason: Reason = "",
    everything: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
    as_json: Json = False,
) -> None:
    """Put dead letters back on the way; what still cannot be used stays where it is. Twice does no harm."""
    from worker.apps.build import build_decoder, source_decoders  # noqa: PLC0415  `--help` needs none of it
    from worker.stream import deadletters  # noqa: PLC0415  as above
    from worker.stream.connection import aiokafka_options  # noqa: PLC0415

    if not (letters or reason or everything):
        raise typer.BadParameter("name letters, a reason, or --all")
    settings = settings_of(context)
    found = asyncio.run(_read(settings, reason))
    chosen = [each for each in found if not letters or f"{each.partition}:{each.offset}" in letters]
    options = aiokafka_options(settings.kafka)
    decoders = build_decoder(settings), source_decoders(settings)
    done = asyncio.run(deadletters.replay(options, settings.topics, chosen, *decoders))
    if as_json:
        print_json({"sent": done.sent, "left": [letter.as_json() for letter in done.left]})
    else:
        say(f"{done.sent:,} went back, {len(done.left):,} still cannot be used")


async def _read(settings: Settings, reason: str) -> list[DeadLetter]:
    from worker.stream.connection import aiokafka_options  # noqa: PLC0415  `--help` needs none of it
    from worker.stream.deadletters import letters  # noqa: PLC0415

    found = letters(aiokafka_options(settings.kafka), settings.topics.dlq)
    return [letter async for letter in found if not reason or letter.reason == reason]
