"""`sessionwatch topics`: the topics with the right partitions, retention and compaction."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import typer

from worker.cli.common import Json, output, print_json, say, settings_of
from worker.cli.errors import CheckFailedError

if TYPE_CHECKING:
    from worker.stream.topics import TopicSpec

app = typer.Typer(help="Create and check the topics.", no_args_is_help=True)


@app.command()
def create(context: typer.Context, *, as_json: Json = False) -> None:
    """Create the topics that do not exist."""
    from worker.stream import topics  # noqa: PLC0415  `--help` needs none of it

    options, wanted = _wanted(context)
    created = asyncio.run(topics.create(options, wanted))
    if as_json:
        print_json({"created": created})
    else:
        say("\n".join(f"created {name}" for name in created) or "nothing to do")


@app.command()
def check(context: typer.Context, *, as_json: Json = False) -> None:
    """Compare the topics with what they should be; fails when one differs."""
    from worker.stream import topics  # noqa: PLC0415  `--help` needs none of it

    options, wanted = _wanted(context)
    problems = asyncio.run(topics.check(options, wanted))
    if as_json:
        print_json({"ok": not problems, "problems": [each._asdict() for each in problems]})
    else:
        for each in problems:
            output(f"{each.topic} {each.what}\n  -> {each.advice}")
    if problems:
        raise CheckFailedError(f"{len(problems)} problems with {len({each.topic for each in problems})} topics")


def _wanted(context: typer.Context) -> tuple[dict[str, Any], list[TopicSpec]]:
    from worker.stream.connection import aiokafka_options  # noqa: PLC0415  `--help` needs none of it
    from worker.stream.topics import specs  # noqa: PLC0415

    settings = settings_of(context)
    return aiokafka_options(settings.kafka), specs(settings.topics, settings.stream.group_id)
