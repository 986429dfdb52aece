"""`Feedback`: what somebody made of a finding. One JSON document a record on the feedback topic."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _fold(value: object) -> object:
    """Take `False Positive` (OCSF's verdict) and `false-positive` as well."""
    return value.strip().lower().replace("-", "_").replace(" ", "_") if isinstance(value, str) else value


class Feedback(BaseModel):
    """A verdict on a finding. Whoever says something of it again replaces what they said before."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    finding_uid: str = Field(min_length=1, max_length=128, description="`finding_info.uid` of the finding.")
    verdict: Annotated[Literal["true_positive", "false_positive"], BeforeValidator(_fold)] = Field(
        description="Whether it was right."
    )
    tenant_id: str = Field("", max_length=256, description="Its tenant.")
    user_id: str = Field("", max_length=256, description="Its user; without it the verdict changes no incident.")
    detection: str = Field("", max_length=128, description="Its detection; counted under it in the metrics.")
    author: str = Field("", max_length=256, description="Who says so.")
    comment: str = Field("", max_length=4096, description="Why.")
