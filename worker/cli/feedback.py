"""`sessionwatch feedback`: what somebody made of a finding, onto the feedback topic."""

from __future__ import annotations

import asyncio
import enum
import getpass
from typing import Annotated

import typer

from worker.cli.common import say, settings_of


class FeedbackVerdict(enum.StrEnum):
    """What a finding was."""

    TRUE_POSITIVE = "true-positive"
    FALSE_POSITIVE = "false-positive"


def feedback(
    context: typer.Context,
    *,
    finding_uid: Annotated[str, typer.Argument(help="Id of the finding.")],
    verdict: Annotated[FeedbackVerdict, typer.Argument(help="What it was.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Its tenant.")] = "",
    user: Annotated[str, typer.Option(help="Its user; with tenant and user their incident follows.")] = "",
    detection: Annotated[str, typer.Option(help="Its detection; counted under it in the metrics.")] = "",
    author: Annotated[str | None, typer.Option(help="Who says so; the user's name unless given.")] = None,
    comment: Annotated[str, typer.Option(help="Why.")] = "",
) -> None:
    """Say whether a finding was right; counted per detection, and kept in ClickHouse."""
    from schemas.feedback import Feedback  # noqa: PLC0415  `--help` needs none of it
    from worker.stream.produce import produce  # noqa: PLC0415

    said = Feedback.model_validate(
        {"finding_uid": finding_uid, "verdict": verdict.value, "tenant_id": tenant, "user_id": user,
         "detection": detection, "author": getpass.getuser() if author is None else author, "comment": comment}
    )  # fmt: skip
    settings = settings_of(context)
    asyncio.run(produce(settings.kafka, settings.topics.feedback, finding_uid, said.model_dump_json().encode()))
    say(f"{finding_uid} was a {verdict.value}")
