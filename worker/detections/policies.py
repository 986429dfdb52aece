"""The policies in force, by tenant. A bad policy is refused and its field named; the last good one stays in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from schemas.policy import MAX_POLICY_BYTES, TenantPolicy
from worker.detections.engine import TenantRuleEngine
from worker.detections.registry import detections

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.detections.api import Detection


class BadPolicyError(ValueError):
    """A policy document that cannot be used; the message names the field and what is wrong with it."""


def parse_policy(document: bytes | str) -> TenantPolicy:
    """Read a policy document.

    Raises:
        BadPolicyError: it is not JSON or does not fit the schema.
    """
    if len(document) > MAX_POLICY_BYTES:
        raise BadPolicyError(f"(document): {len(document):,} bytes, and at most {MAX_POLICY_BYTES:,} are allowed")
    try:
        return TenantPolicy.model_validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "(document)"
        raise BadPolicyError(f"{field}: {first['msg'].removeprefix('Value error, ')}") from None
    except Exception as error:
        raise BadPolicyError(f"(document): it cannot be read: {error}") from error


def check_policy(document: bytes | str) -> TenantPolicy:
    """Read a policy document and hold it against the catalogue.

    Raises:
        BadPolicyError: it does not fit the schema, or names a detection or parameter that does not exist.
    """
    policy = parse_policy(document)
    Policies(detections().values()).compile(policy)
    return policy


def read_policies(document: bytes) -> dict[str, bytes]:
    """Read a JSON list of policies, each with a `tenant_id` beside the policy's own fields.

    Raises:
        BadPolicyError: it is no such list, or one of them cannot be used.
    """
    try:
        entries = TypeAdapter(list[dict[str, Any]]).validate_json(document)
        found = {str(entry["tenant_id"]): entry for entry in entries}
    except (ValidationError, KeyError):
        raise BadPolicyError("a list of policies is wanted, each with its tenant_id") from None
    documents = {}
    for tenant_id, entry in found.items():
        documents[tenant_id] = to_json({key: value for key, value in entry.items() if key != "tenant_id"})
        check_policy(documents[tenant_id])
    return documents


class Policies:
    """Policies by tenant, and the rule engine each makes.

    Args:
        detections: the catalogue in use.
    """

    def __init__(self, detections: Iterable[Detection[Any]]) -> None:
        self._detections = tuple(detections)
        self._default = TenantRuleEngine(self._detections)
        self._engines: dict[str, TenantRuleEngine] = {}

    def engine_for(self, tenant_id: str) -> TenantRuleEngine:
        """Return the engine of a tenant."""
        return self._engines.get(tenant_id, self._default)

    def set(self, tenant_id: str, document: bytes | None) -> None:
        """Put a tenant's policy in force; None takes it back.

        Raises:
            BadPolicyError: the document cannot be used; the tenant's last good policy stays in force.
        """
        if document is None:
            self._engines.pop(tenant_id, None)
            return
        self._engines[tenant_id] = self.compile(parse_policy(document))

    def compile(self, policy: TenantPolicy) -> TenantRuleEngine:
        """Return the engine a policy makes.

        Raises:
            BadPolicyError: it names a detection or a parameter that does not exist, or cannot be used for another
                reason: whatever a document does, it is refused and nothing else happens.
        """
        try:
            policy.prepare()
            return TenantRuleEngine(self._detections, policy)
        except Exception as error:
            raise BadPolicyError(str(error) or "(document): it cannot be used") from error
