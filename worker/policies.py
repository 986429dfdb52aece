"""The policies in force: tenant -> judge. A bad policy is refused with the field named; the last good one stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from schemas.policy import TenantPolicy
from worker.detections.catalogue import CatalogueJudge

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from worker.detections.form import Detection


class BadPolicyError(ValueError):
    """A policy document that cannot be used; the message names the field and what is wrong with it."""


def parse_policy(document: bytes | str) -> TenantPolicy:
    """Read a policy document.

    Raises:
        BadPolicyError: it is not JSON or does not fit the schema.
    """
    try:
        return TenantPolicy.model_validate_json(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "(document)"
        raise BadPolicyError(f"{field}: {first['msg']}") from None


class Policies:
    """Who is judged by what.

    Args:
        detections: the catalogue in use.
    """

    def __init__(self, detections: Iterable[Detection[Any]]) -> None:
        self._detections = tuple(detections)
        self._default = CatalogueJudge(self._detections)
        self._judges: dict[str, CatalogueJudge] = {}

    def judge(self, tenant_id: str) -> CatalogueJudge:
        """Return the judge of a tenant."""
        return self._judges.get(tenant_id, self._default)

    def set(self, tenant_id: str, document: bytes | None) -> None:
        """Put a tenant's policy in force; None takes it back.

        Raises:
            BadPolicyError: the document cannot be used; the tenant's last good policy stays in force.
        """
        if document is None:
            self._judges.pop(tenant_id, None)
            return
        self._judges[tenant_id] = self.compile(parse_policy(document))

    def compile(self, policy: TenantPolicy) -> CatalogueJudge:
        """Return the judge a policy makes.

        Raises:
            BadPolicyError: it names a detection or a parameter that does not exist.
        """
        try:
            return CatalogueJudge(self._detections, policy)
        except ValueError as error:
            raise BadPolicyError(str(error)) from None
