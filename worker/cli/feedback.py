"""`sessionwatch feedback`: a verdict on a finding or an incident, published to the feedback topic."""

from __future__ import annotations

import enum
import getpass
from typing import Annotated

import typer

from worker.cli.common import say, settings_of


class FeedbackVerdict(enum.StrEnum):
    """The verdict on a finding. `_` and a space may stand for `-`, as in the feedback topic and in OCSF."""

    INVESTIGATING = "investigating"
    TRUE_POSITIVE = "true-positive"
    FALSE_POSITIVE = "false-positive"

    @classmethod
    def _missing_(cls, value: object) -> FeedbackVerdict | None:
        folded = str(value).lower().replace("_", "-").replace(" ", "-")
        return next((each for each in cls if each.value == folded), None)


def _verdict(text: str) -> FeedbackVerdict:
    try:
        return FeedbackVerdict(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(FeedbackVerdict)}") from None


def feedback(
    context: typer.Context,
    *,
    finding_uid: Annotated[str, typer.Argument(help="Id of the finding or of the incident, or its beginning.")],
    verdict: Annotated[
        FeedbackVerdict,
        typer.Argument(help="Whether it is right.", parser=_verdict, metavar="|".join(FeedbackVerdict)),
    ],
    tenant: Annotated[str, typer.Option("--tenant", help="Its tenant; looked up when not given.")] = "",
    user: Annotated[str, typer.Option(help="Its user, whose incident follows; looked up when not given.")] = "",
    detection: Annotated[str, typer.Option(help="Its detection; looked up when not given.")] = "",
    author: Annotated[str | None, typer.Option(help="Author; the name of the current user when not given.")] = None,
    comment: Annotated[str, typer.Option(help="Reason.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Publish without looking the id up in ClickHouse.")] = False,
) -> None:
    """Record whether a finding, or each finding of an incident, is right.

    Without `clickhouse.dsn`, a running `demo` is used.

    Verdicts are counted per detection and kept in ClickHouse. `investigating` and `true-positive` acknowledge the
    incident, also in PagerDuty; `false-positive` for all of its findings resolves it.
    """
    from schemas.feedback import Feedback  # noqa: PLC0415  `--help` needs none of it
    from worker.apps import feedback as program  # noqa: PLC0415

    given = Feedback.model_validate(
        {"finding_uid": finding_uid, "verdict": verdict.value, "tenant_id": tenant, "user_id": user,
         "detection": detection, "author": getpass.getuser() if author is None else author, "comment": comment}
    )  # fmt: skip
    complete = program.publish(settings_of(context), given, force=force)
    many = f" ({len(complete.findings)} findings)" if complete.more_findings else ""
    done = "published without checking" if force else "recorded"
    say(f"{done}: {finding_uid}{many} is {verdict.value}")
