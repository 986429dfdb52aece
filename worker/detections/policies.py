"""Policies in force, by tenant. An invalid policy is rejected, and the last valid one stays in force."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from schemas.policy import MAX_POLICY_BYTES, TenantPolicy
from schemas.text import validation_words
from worker.detections.engine import TenantRuleEngine
from worker.detections.registry import detections
from worker.enrich.gazetteer import country_codes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.detections.api import Detection


class BadPolicyError(ValueError):
    """A policy document is invalid; the message names the field and the problem."""


def parse_policy(document: bytes | str) -> TenantPolicy:
    """Parse a policy document.

    Raises:
        BadPolicyError: the document is not JSON or does not match the schema.
    """
    if len(document) > MAX_POLICY_BYTES:
        raise BadPolicyError(f"(document): {len(document):,} bytes, and at most {MAX_POLICY_BYTES:,} are allowed")
    try:
        return TenantPolicy.model_validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "(document)"
        if first["type"] == "extra_forbidden":
            raise BadPolicyError(f"{field}: is no key of a policy{_hint(str(first['loc'][-1]))}") from None
        raise BadPolicyError(f"{field}: {validation_words(first['msg'])}") from None
    except Exception as error:
        raise BadPolicyError(f"(document): it cannot be read: {error}") from error


def _hint(name: str) -> str:
    """Return the known key of a policy that is most like a name, as a question; empty when none is."""
    schema = TenantPolicy.model_json_schema()
    known = [key for each in (schema, *schema.get("$defs", {}).values()) for key in each.get("properties", ())]
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def check_policy(document: bytes | str) -> TenantPolicy:
    """Parse a policy document and check it against the existing detections.

    Raises:
        BadPolicyError: the document does not match the schema, or names a detection or parameter that does not exist.
    """
    policy = parse_policy(document)
    Policies(detections().values()).compile(policy)
    return policy


def read_policies(document: bytes, tenant_id: str = "") -> dict[str, bytes]:
    """Parse a file of policies: one JSON object or a list of them, each a policy with an additional `tenant_id`.

    Args:
        document: the JSON text.
        tenant_id: tenant of an object without `tenant_id`.

    Returns:
        Policy documents by tenant.

    Raises:
        BadPolicyError: the text is neither, a tenant is missing or occurs twice, or a policy is invalid.
    """
    documents: dict[str, bytes] = {}
    for entry in _entries(document):
        tenant = entry.pop("tenant_id", tenant_id)
        if not isinstance(tenant, str) or not tenant:
            raise BadPolicyError("tenant_id: a policy must name its tenant")
        if tenant in documents:
            raise BadPolicyError(f"tenant_id: {tenant!r} has two policies")
        documents[tenant] = to_json(entry)
        try:
            check_policy(documents[tenant])
        except BadPolicyError as error:
            raise BadPolicyError(f"tenant {tenant}: {error}") from None
    return documents


def _entries(document: bytes) -> list[dict[str, Any]]:
    try:
        found = from_json(document)
    except ValueError as error:
        raise BadPolicyError(f"(document): it is not JSON: {error}") from None
    entries = found if isinstance(found, list) else [found]
    if not all(isinstance(entry, dict) for entry in entries):
        raise BadPolicyError("(document): expected a policy or a list of policies, each an object with its tenant_id")
    return entries


def unknown_countries(document: bytes) -> list[str]:
    """Return the codes in a policy's lists of countries that are not in ISO 3166."""
    policy = parse_policy(document)
    return sorted({*policy.allowed_countries, *policy.denied_countries} - country_codes())


class Policies:
    """The rule engines of tenants, built from their policies.

    Args:
        detections: the detections in use.
        on_failure: see `TenantRuleEngine`.
    """

    def __init__(
        self, detections: Iterable[Detection[Any]], on_failure: Callable[[str, Exception], None] | None = None
    ) -> None:
        self._detections = tuple(detections)
        self._on_failure = on_failure
        self._default = TenantRuleEngine(self._detections, on_failure=on_failure)
        self._engines: dict[str, TenantRuleEngine] = {}

    def engine_for(self, tenant_id: str) -> TenantRuleEngine:
        """Return the rule engine of a tenant."""
        return self._engines.get(tenant_id, self._default)

    def set(self, tenant_id: str, document: bytes | None) -> None:
        """Put a tenant's policy in force; None removes it.

        Raises:
            BadPolicyError: the document is invalid; the tenant's last valid policy stays in force.
        """
        if document is None:
            self._engines.pop(tenant_id, None)
            return
        self._engines[tenant_id] = self.compile(parse_policy(document))

    def compile(self, policy: TenantPolicy) -> TenantRuleEngine:
        """Return a rule engine with a policy.

        Raises:
            BadPolicyError: the policy names a detection or parameter that does not exist, or cannot be used for any
                other reason. No policy can cause another exception.
        """
        try:
            policy.prepare()
            return TenantRuleEngine(self._detections, policy, self._on_failure)
        except Exception as error:
            raise BadPolicyError(str(error) or "(document): it cannot be used") from error
