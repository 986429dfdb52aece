"""JSON Schemas (2020-12) of the contracts; `python -m tools.docs` writes them to `schemas/json/`."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.clickhouse.tables import TABLES, Column
from schemas.feedback import Feedback
from schemas.finding import CATEGORY_UID, CLASS_UID, SEVERITIES, STATUS_CAPTION, STATUS_ID, Activity
from schemas.incident import CLASS_NAME, INCIDENT_CLASS_UID, INCIDENT_STATUS, INCIDENT_STATUS_ID, Incident
from schemas.policy import TenantPolicy
from schemas.session import SESSION

DIALECT = "https://json-schema.org/draft/2020-12/schema"
BASE = "https://sessionwatch.dev/schemas/"
TEXT, WHOLE, LOGICAL = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
_TYPES: dict[str, dict[str, Any]] = {
    "String": TEXT,
    "LowCardinality(String)": TEXT,
    "Bool": LOGICAL,
    "Float64": {"type": "number"},
    "DateTime64(3, 'UTC')": {"type": "string", "description": "Date and time, UTC, milliseconds"},
}


def documents() -> dict[str, dict[str, Any]]:
    """Return all schemas by file name."""
    found = {
        "auth-session": SESSION.json_schema(),
        "tenant-policy": TenantPolicy.model_json_schema(),
        "finding": finding_schema(),
        "incident": incident_schema(),
        "feedback-document": Feedback.model_json_schema(),
        **{name.replace("_", "-"): row_schema(name) for name in TABLES},
    }
    return {
        f"{name}.schema.json": {"$schema": DIALECT, "$id": f"{BASE}{name}.schema.json", **schema}
        for name, schema in found.items()
    }


def row_schema(table: str) -> dict[str, Any]:
    """Return the schema of a row of a ClickHouse table, as `FORMAT JSONEachRow` gives it."""
    columns = TABLES[table].columns
    return {
        "title": table,
        "type": "object",
        "properties": {column.name: _column(column) for column in columns},
        "required": [column.name for column in columns],
    }


def _column(column: Column) -> dict[str, Any]:
    return {**_type(column.type), "description": column.comment}


def _type(name: str) -> dict[str, Any]:
    if name.startswith("Nullable("):
        inner = _type(name.removeprefix("Nullable(").removesuffix(")"))
        return {**inner, "type": [inner["type"], "null"]}
    if name.startswith("Array("):
        return {"type": "array", "items": _type(name.removeprefix("Array(").removesuffix(")"))}
    if name.startswith(("UInt", "Int")):
        return {**WHOLE, **({"minimum": 0} if name.startswith("U") else {})}
    return _TYPES[name]


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


def _attack() -> dict[str, Any]:
    technique = _object({"uid": TEXT, "name": TEXT})
    return _object({"technique": technique, "version": TEXT}, sub_technique=technique)


def incident_schema() -> dict[str, Any]:
    """Return the schema of a message on the incidents topic: an OCSF Incident Finding (class 2005)."""
    (incident,), definitions = msgspec.json.schema_components([Incident], ref_template="#/$defs/{name}")
    analytic = _object({"uid": TEXT, "name": TEXT, "type_id": {"const": 1}, "type": {"const": "Rule"}})
    info = _object(
        {"uid": TEXT, "title": TEXT, "desc": TEXT, "analytic": analytic},
        first_seen_time=WHOLE, last_seen_time=WHOLE,
    )  # fmt: skip
    metadata = _object(
        {"version": TEXT, "product": _object({"name": TEXT, "vendor_name": TEXT}), "tenant_uid": TEXT, "uid": TEXT},
        correlation_uid=TEXT,
    )
    return {
        "title": "Incident",
        "description": "A state of an incident; times are milliseconds since the epoch. `unmapped` holds all of it.",
        "$defs": definitions,
        **_object(
            {
                "class_uid": {"const": INCIDENT_CLASS_UID}, "class_name": {"const": CLASS_NAME},
                "category_uid": {"const": CATEGORY_UID}, "category_name": {"const": "Findings"},
                "activity_id": {"enum": [int(each) for each in Activity]},
                "type_uid": {"enum": [INCIDENT_CLASS_UID * 100 + int(each) for each in Activity]},
                "severity_id": {"enum": list(range(1, len(SEVERITIES) + 1))},
                "severity": {"enum": [each.capitalize() for each in SEVERITIES]},
                "status_id": {"enum": sorted(set(INCIDENT_STATUS_ID.values()))},
                "status": {"enum": list(INCIDENT_STATUS.values())},
                "time": WHOLE, "start_time": WHOLE, "end_time": WHOLE, "count": {"type": "integer", "minimum": 1},
                "message": TEXT, "metadata": metadata, "attacks": {"type": "array", "items": _attack()},
                "finding_info_list": {"type": "array", "minItems": 1, "items": info}, "unmapped": incident,
            },
        ),
    }  # fmt: skip


def finding_schema() -> dict[str, Any]:
    """Return the schema of a message on the findings topic: an OCSF Detection Finding (class 2004)."""
    user = _object({"uid": TEXT, "org": _object({"uid": TEXT})})
    attack = _attack()
    analytic = _object({"uid": TEXT, "name": TEXT, "type_id": {"const": 1}, "type": {"const": "Rule"}})
    info = _object(
        {
            "uid": TEXT, "title": TEXT, "desc": TEXT, "analytic": analytic,
            "attacks": {"type": "array", "items": attack},
            "first_seen_time": WHOLE, "last_seen_time": WHOLE, "modified_time": WHOLE,
        }
    )  # fmt: skip
    metadata = _object(
        {"version": TEXT, "product": _object({"name": TEXT, "vendor_name": TEXT}), "tenant_uid": TEXT, "uid": TEXT},
        correlation_uid=TEXT, log_name=TEXT, sequence=WHOLE, labels={"type": "array", "items": TEXT},
        profiles={"type": "array", "items": TEXT},
    )  # fmt: skip
    return {
        "title": "Finding",
        "description": "A state of a finding; times are milliseconds since the epoch.",
        **_object(
            {
                "class_uid": {"const": CLASS_UID}, "class_name": {"const": "Detection Finding"},
                "category_uid": {"const": CATEGORY_UID}, "category_name": {"const": "Findings"},
                "activity_id": {"enum": [int(each) for each in Activity]},
                "type_uid": {"enum": [CLASS_UID * 100 + int(each) for each in Activity]},
                "severity_id": {"enum": list(range(1, len(SEVERITIES) + 1))},
                "severity": {"enum": [each.capitalize() for each in SEVERITIES]},
                "status_id": {"enum": sorted(set(STATUS_ID.values()))},
                "status": {"enum": list(STATUS_CAPTION.values())},
                "time": WHOLE, "start_time": WHOLE, "end_time": WHOLE, "count": {"type": "integer", "minimum": 1},
                "message": TEXT, "risk_score": {"type": "integer", "minimum": 0, "maximum": 100},
                "is_alert": LOGICAL, "metadata": metadata, "finding_info": info,
                "evidences": {"type": "array", "minItems": 1, "items": _object({"data": {"type": "object"}})},
                "remediation": _object({"desc": TEXT}),
                "unmapped": _object({"suppressed_by": {"type": "array", "items": TEXT}, "shadow": LOGICAL}),
            },
            actor=_object({"user": user}, session=_object({"uid": TEXT})),
        ),
    }  # fmt: skip
