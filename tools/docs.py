"""Generates documents from the code: tables, the page of runbooks, and the JSON Schemas of the contracts.

`python -m tools.docs` writes them. Tests check that they are up to date.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from prometheus_client.metrics import MetricWrapperBase

from schemas.finding import SEVERITIES
from schemas.jsonschema import documents
from schemas.policy import DetectionPolicy, TenantPolicy
from tools import false_alerts
from worker.detections.registry import detections
from worker.observe import metrics
from worker.settings import settings, type_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from worker.detections.api import Detection

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "docs/operations.md", "docs/runbooks.md")
JSON_SCHEMAS = ROOT / "schemas" / "json"
_GENERATED = re.compile(r"(?s)(<!-- begin (?P<name>[a-z]+) -->\n).*?(<!-- end (?P=name) -->)")


def settings_table() -> str:
    """Return every setting as a Markdown table."""
    rows = [
        (f"`{each.path}`", each.type, f"`{each.default}`" if each.default else "", each.description)
        for each in settings()
    ]
    return _table(("setting", "type", "default", "what"), rows)


def detections_table() -> str:
    """Return all detections as a Markdown table."""
    rows = [
        (f"`{each.id}`", each.title, SEVERITIES[each.severity], ", ".join(attack.uid for attack in each.attacks))
        for each in detections().values()
    ]
    return _table(("detection", "flags", "severity", "ATT&CK"), rows)


def policies_table() -> str:
    """Return every key of a tenant's policy as a Markdown table."""
    rows = [*_policy_rows(TenantPolicy, ""), *_policy_rows(DetectionPolicy, "detections.<id>.")]
    return _table(("key", "type", "default", "what"), rows)


def _policy_rows(model: type[BaseModel], prefix: str) -> Iterable[Sequence[str]]:
    for name, field in model.model_fields.items():
        kind = type_name(field.annotation)
        shown = "object" if kind in ("table", "AlertingPolicy") else kind
        yield f"`{prefix}{name}`", shown, _policy_default(field), field.description or ""


def _policy_default(field: FieldInfo) -> str:
    value = field.get_default()
    if not isinstance(value, str | int | float | tuple) or value == ():
        return ""
    return f"`{orjson.dumps(value).decode()}`"


def runbooks() -> str:
    """Return the runbooks, one section for each detection."""
    record = false_alerts.recorded()
    return "\n".join(_runbook(each, record) for each in detections().values())


def _runbook(each: Detection[Any], record: dict[str, Any]) -> str:
    steps = "\n".join(f"{number}. {step}" for number, step in enumerate(each.runbook, 1))
    benign = "\n".join(f"- {cause}" for cause in each.false_positives)
    attacks = ", ".join(f"{attack.uid} {attack.name}" for attack in each.attacks)
    return (
        f"## {each.id}\n\n**{each.title}** ({SEVERITIES[each.severity]}). {each.description}\n\n{steps}\n\n"
        f"Benign causes:\n\n{benign}\n\n{_consequences(each)}"
        f"{false_alerts.sentence(each.id, record)}\n\nATT&CK: {attacks}.\n"
    )


def _consequences(each: Detection[Any]) -> str:
    """Return how a finding affects learning, and other findings of the same event."""
    doubt = (
        "From medium up it casts doubt on who holds the session: what the session shows is not learned for the "
        "quarantine."
        if each.casts_doubt
        else "It casts no doubt on who holds the session: what the session shows is learned."
    )
    covered = ", ".join(f"`{uid}`" for uid in each.covers)
    return (
        f"{doubt}{f' Says what {covered} of the same event say; those are stored as covered.' if covered else ''}\n\n"
    )


def metrics_table() -> str:
    """Return every metric as a Markdown table."""
    rows = [(f"`{_name(each)}`", each._type, _labels(each), each._documentation) for each in declared()]  # noqa: SLF001  prometheus_client has no public way to a metric's own description
    return _table(("metric", "kind", "labels", "what"), rows)


def declared() -> list[MetricWrapperBase]:
    """Return every metric, in the order of its declaration."""
    return [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]


def _name(metric: MetricWrapperBase) -> str:
    return next(iter(metric.describe())).name + ("_total" if metric._type == "counter" else "")  # noqa: SLF001  as above


def _labels(metric: MetricWrapperBase) -> str:
    return ", ".join(metric._labelnames)  # noqa: SLF001  as above


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


TABLES = {
    "settings": settings_table, "detections": detections_table, "metrics": metrics_table, "runbooks": runbooks,
    "policies": policies_table,
}  # fmt: skip


def rendered(text: str) -> str:
    """Return a document with its generated tables updated."""
    return _GENERATED.sub(lambda found: found[1] + TABLES[found["name"]]() + found[3], text)


def schema_files() -> dict[Path, bytes]:
    """Return the JSON Schemas by path of their files."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return {JSON_SCHEMAS / name: orjson.dumps(schema, option=options) for name, schema in documents().items()}


def main() -> None:
    """Write all generated documents."""
    JSON_SCHEMAS.mkdir(exist_ok=True)
    for path, content in schema_files().items():
        path.write_bytes(content)
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
