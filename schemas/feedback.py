"""`Feedback`: an analyst's verdict on findings. Each record of the feedback topic holds one JSON document."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _fold(value: object) -> object:
    """Return a verdict in the schema's spelling. `False Positive` (OCSF) and `false-positive` are accepted, too."""
    return value.strip().lower().replace("-", "_").replace(" ", "_") if isinstance(value, str) else value


MOST_FINDINGS = 256
"""Maximum number of findings that a document names besides `finding_uid`: as many as are kept of a user."""


class Feedback(BaseModel):
    """A verdict on one or several findings. A later verdict of the same author replaces the earlier one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    finding_uid: str = Field(min_length=1, max_length=128, description="`finding_info.uid` of the finding.")
    more_findings: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = Field(
        (),
        max_length=MOST_FINDINGS,
        description="Further findings of the same user, such as the others of an incident.",
    )
    verdict: Annotated[Literal["investigating", "true_positive", "false_positive"], BeforeValidator(_fold)] = Field(
        description="Whether it was right; `investigating` while this is being found out."
    )
    tenant_id: str = Field("", max_length=256, description="Its tenant.")
    user_id: str = Field("", max_length=256, description="Its user, whose incident the verdict is about, too.")
    incident_key: str = Field(
        "", max_length=2048, description="In place of the user, `key` of an incident that is about no single user."
    )
    detection: str = Field("", max_length=128, description="Its detection; counted under it in the metrics.")
    author: str = Field("", max_length=256, description="Who says so.")
    comment: str = Field("", max_length=4096, description="Why.")

    @property
    def findings(self) -> tuple[str, ...]:
        """Ids of all findings that the verdict is about, each once."""
        return tuple(dict.fromkeys((self.finding_uid, *self.more_findings)))
