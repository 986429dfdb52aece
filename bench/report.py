"""Writes docs/benchmarks.json, the pictures and the tables of docs/comparison.md from a result of `make bench`.

python -m bench.report bench.json
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.contestants import CONTESTANTS
from bench.costs import Measured, million
from bench.picture import bars

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

DOCS = Path(__file__).parents[1] / "docs"
PAGE, DATA, IMAGES = DOCS / "comparison.md", DOCS / "benchmarks.json", DOCS / "img"
ROLES = ("program", "store", "broker")
BROKERS = {"apache": "Apache Kafka", "embedded": "the embedded broker"}
STORES = {"embedded": "", "acknowledging": ", store elsewhere"}
_SECTION = "<!-- generated: {0} -->\n{1}<!-- end -->"
_GENERATED = re.compile(r"<!-- generated: ([\w-]+) -->\n.*?<!-- end -->", re.DOTALL)

QUIET_LOAD = 0.25
"""Load average of a core below which a machine counts as quiet."""
OF_STATE = ("decode_state", "encode_state", "publish_state")
ONCE_AN_EVENT = ("decode_and_validate", "enrich", *OF_STATE)

Entry = dict[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def of(result: Mapping[str, Any], what: str, **where: Any) -> Iterator[Entry]:
    """Yield the summaries of some runs, in the order of the contestants."""
    order = list(CONTESTANTS)
    for entry in sorted(result["summary"], key=lambda each: order.index(each["program"])):
        if entry["what"] == what and all(entry.get(name) == value for name, value in where.items()):
            yield entry


def cells(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return broker, mix and store of what was measured, in the order it was."""
    found = ((each["broker"], each["mix"], each["store"]) for each in result["summary"] if each["what"] == "throughput")
    return list(dict.fromkeys(found))


def is_quiet(result: Mapping[str, Any]) -> bool:
    """Tell whether the machine had nothing else to do when the run began."""
    return bool(result["load_before"][0] <= QUIET_LOAD * result["cores"])


def machine(result: Mapping[str, Any]) -> str:
    """Return when and where it was measured, and what else ran."""
    load = ", ".join(f"{each}" for each in result["load_before"])
    busy = "**Other work ran at the same time: these are not the figures of a quiet machine.**\n"
    return (
        f"{result['cores']} cores ({result['processor']}), Python {result['python']}, {result['at']} UTC, "
        f"{result['events']:,} events on the input topic; load average before the run {load}.\n"
    ) + ("" if is_quiet(result) else busy)


def throughput(result: Mapping[str, Any]) -> str:
    """Return a table for each broker, mix and store."""
    head = ("program", "events/s", *(f"µs an event, {role}" for role in ROLES), "runs")
    texts = []
    for broker, mix, store in cells(result):
        found = of(result, "throughput", broker=broker, mix=mix, store=store)
        texts.append(f"\n**{mix}, on {BROKERS[broker]}{STORES[store]}**\n\n{table(head, map(_speed, found))}")
    return "".join(texts)


def _speed(entry: Entry) -> list[str]:
    title = CONTESTANTS[entry["program"]].title
    if "error" in entry:
        return [title, "failed", "", "", "", "0"]
    micros = [f"{entry['us_per_event'][role]:,.0f}" for role in ROLES]
    return [title, f"{entry['events_per_second']:,.0f}", *micros, str(entry["runs"])]


def latency(result: Mapping[str, Any]) -> str:
    """Return a table of latencies."""
    head = ("program", "events/s", "finding p50 / p99 / p99.9", "row p50 / p99 / p99.9", "µs an event, program")
    return table(head, map(_delays, of(result, "latency")))


def _delays(entry: Entry) -> list[str]:
    title, rate = CONTESTANTS[entry["program"]].title, f"{entry['asked_rate']:,}"
    if "error" in entry:
        return [title, rate, "did not keep up", "", ""]
    return [title, rate, _cut(entry.get("finding")), _cut(entry.get("row")), f"{entry['us_per_event']['program']:,.0f}"]


def _cut(delays: Mapping[str, float] | None) -> str:
    if not delays or "p50_ms" not in delays:
        return ""
    return " / ".join(f"{delays[name]:,.0f}" for name in ("p50_ms", "p99_ms", "p999_ms")) + " ms"


def state(result: Mapping[str, Any]) -> str:
    """Return a table of state, start and restart."""
    head = ("program", "changelog bytes an event", "resident at the end, MiB", "start, s", "restart with state, s")
    return table(head, map(_kept, of(result, "throughput", broker="apache", mix="busy", store="embedded")))


def _kept(entry: Entry) -> list[str]:
    title = CONTESTANTS[entry["program"]].title
    if "error" in entry:
        return [title, "", "", "", ""]
    written = entry.get("recovery_files_bytes") or entry.get("changelog_bytes")
    each = "" if not written else f"{written / entry['processed']:,.0f}"
    restart = f"{entry['restart_seconds']}" if "restart_seconds" in entry else ""
    return [title, each, f"{entry['resident_mib']:,.0f}", f"{entry['start_seconds']}", restart]


def memory(result: Mapping[str, Any]) -> str:
    """Return what a session takes in the worker."""
    if "memory" not in result:
        return "Not measured.\n"
    found = result["memory"]
    return (
        f"A session takes {found['state_bytes_per_session']:,} bytes encoded and "
        f"{found['resident_bytes_per_session']:,} bytes of resident memory in the worker "
        f"({found['active_sessions']:,} sessions of {found['users']:,} users, busy; the pipeline and its memory store "
        "alone).\n"
    )


def threads(result: Mapping[str, Any]) -> str:
    """Return a table of processor time by thread of the program."""
    found = of(result, "throughput", broker="apache", mix="busy", store="embedded")
    rows = [
        [
            CONTESTANTS[each["program"]].title,
            ", ".join(f"`{name}` {us:,.0f}" for name, us in each["us_by_thread"].items()),
        ]
        for each in found
        if "error" not in each
    ]
    return table(("program", "µs an event by thread"), rows)


def parts(result: Mapping[str, Any]) -> str:
    """Return a table of the unavoidable parts."""
    found = result.get("parts", {})
    mixes = [name for name, value in found.items() if isinstance(value, dict)]
    names = list(found[mixes[0]]) if mixes else []
    rows = [[name.replace("_", " "), *(f"{found[mix][name]}" for mix in mixes)] for name in names]
    if mixes:
        sums = [sum(found[mix].get(name, 0) for name in ONCE_AN_EVENT) for mix in mixes]
        rows.append(["sum of decoding, enrichment and state, each once an event", *(f"{each:.1f}" for each in sums)])
    rows += [["insert a row of `session_events`, views included (in the store)", f"{found.get('insert_row', '')}", ""]]
    return table(("part, µs an event", *mixes), rows)


def costs(result: Mapping[str, Any]) -> str:
    """Return the table of a million users; nothing of a machine with other work, whose speed says nothing."""
    if not is_quiet(result):
        return "Not computed: other work ran on the machine.\n"
    steady = next(
        of(result, "throughput", broker="apache", mix="steady", store="embedded", program="sessionwatch"), None
    )
    if steady is None or "error" in steady or not {"memory", "parts"} <= set(result):
        return "Not measured.\n"
    micros, memory = steady["us_per_event"], result["memory"]
    one = Measured(
        steady["events_per_second"],
        *(micros[role] for role in ROLES),
        state_us=sum(result["parts"]["steady"].get(name, 0) for name in OF_STATE),
        resident_bytes=memory["resident_bytes_per_session"],
        state_bytes=memory["state_bytes_per_session"],
        row_bytes=steady["row_bytes"],
    )
    return table(("what", "how much", "from"), million(one))


SECTIONS = {
    "machine": machine,
    "throughput": throughput,
    "latency": latency,
    "state": state,
    "memory": memory,
    "threads": threads,
    "parts": parts,
    "costs": costs,
}


def filled(page: str, result: Mapping[str, Any]) -> str:
    """Return a page with its generated sections written anew."""
    return _GENERATED.sub(lambda found: _SECTION.format(found[1], SECTIONS[found[1]](result)), page)


def pictures(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the pictures by file name."""
    found = {}
    for mix in ("busy", "steady"):
        entries = [
            each
            for each in of(result, "throughput", broker="apache", mix=mix, store="embedded")
            if "error" not in each and each["program"] != "floor"
        ]
        titled = {CONTESTANTS[each["program"]].title: each for each in entries}
        speed = {title: [each["events_per_second"]] for title, each in titled.items()}
        micros = {title: [each["us_per_event"][role] for role in ROLES] for title, each in titled.items()}
        found[f"bench-{mix}-speed.svg"] = bars(f"One process, {mix} mix, Apache Kafka", "events a second", speed, ("",))
        found[f"bench-{mix}-cost.svg"] = bars(f"Processor time, {mix} mix", "µs an event", micros, ROLES)
    return found


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    result = json.loads(parser.parse_args().result.read_text())
    DATA.write_text(json.dumps(result, indent=1) + "\n")
    for name, picture in pictures(result).items():
        (IMAGES / name).write_text(picture)
    PAGE.write_text(filled(PAGE.read_text(), result))


if __name__ == "__main__":
    main()
