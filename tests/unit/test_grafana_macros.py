"""The expander in `tests/support/grafana.py` against what the plug-in's own tests expect of the plug-in.

Facts from its `pkg/macros/macros_test.go` and `src/data/CHDatasource.test.ts`, put down as input and output.
"""

from __future__ import annotations

import pytest

from tests.support.grafana import Window, conditional_all, expand, interpolated, macros

# 2014-11-12T11:45:26.123Z to 2015-11-12T11:45:26.456Z
YEAR = Window(1415792726123, 1447328726456, 20)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("$__fromTime", "toDateTime(1415792726)"),
        ("$__toTime", "toDateTime(1447328726)"),
        ("$__fromTime_ms", "fromUnixTimestamp64Milli(1415792726123)"),
        ("$__toTime_ms", "fromUnixTimestamp64Milli(1447328726456)"),
        ("$__timeFrom(ts)", "ts >= toDateTime(1415792726)"),
        ("$__timeTo(ts)", "ts <= toDateTime(1447328726)"),
        ("$__dateFilter(d)", "d >= toDate('2014-11-12') AND d <= toDate('2015-11-12')"),
        (
            "$__dateTimeFilter(d, t)",
            ("(d >= toDate('2014-11-12') AND d <= toDate('2015-11-12'))"
            " AND (t >= toDateTime(1415792726) AND t <= toDateTime(1447328726))"),
        ),
        ("$__timeInterval(col)", "toStartOfInterval(toDateTime(col), INTERVAL 20 second)"),
        ("$__timeInterval_ms(col)", "toStartOfInterval(toDateTime64(col, 3), INTERVAL 20000 millisecond)"),
        ("$__timeGroup(ts, 5m)", "toStartOfInterval(toDateTime(ts), INTERVAL 300 second)"),
        ("$__timeGroup(ts, 1h)", "toStartOfInterval(toDateTime(ts), INTERVAL 3600 second)"),
        ("$__interval_s", "20"),
        # An argument may have brackets of its own, and blanks around it.
        (
            "where $__timeFilter(cast(sth as timestamp) )",
            (
                "where cast(sth as timestamp) >= toDateTime(1415792726)"
                " AND cast(sth as timestamp) <= toDateTime(1447328726)"
            ),
        ),
        (
            "$__timeFilter_ms(cast(sth as timestamp))",
            ("cast(sth as timestamp) >= fromUnixTimestamp64Milli(1415792726123)"
            " AND cast(sth as timestamp) <= fromUnixTimestamp64Milli(1447328726456)"),
        ),
        ("( date >= $__fromTime ) and ( date <= $__toTime )",
         "( date >= toDateTime(1415792726) ) and ( date <= toDateTime(1447328726) )"),
        # A macro within a macro: the inner one first.
        ("$__timeInterval($__fromTime)", "toStartOfInterval(toDateTime(toDateTime(1415792726)), INTERVAL 20 second)"),
        (
            "$__timeFilter(coalesce(closed_at, $__toTime))",
            ("coalesce(closed_at, toDateTime(1447328726)) >= toDateTime(1415792726)"
            " AND coalesce(closed_at, toDateTime(1447328726)) <= toDateTime(1447328726)"),
        ),
        # What looks like a comment within quotes is none, and what comes after is expanded.
        (r"msg = 'it\'s -- fine' and $__fromTime", r"msg = 'it\'s -- fine' and toDateTime(1415792726)"),
        (r"msg = 'a\'/*x' and $__toTime", r"msg = 'a\'/*x' and toDateTime(1447328726)"),
        ("msg = 'it''s' and $__fromTime", "msg = 'it''s' and toDateTime(1415792726)"),
        ("`it's` WHERE m = 'a--b' AND $__timeFrom(ts)", "`it's` WHERE m = 'a--b' AND ts >= toDateTime(1415792726)"),
        ("$doc$a--b$doc$ AS x WHERE $__toTime", "$doc$a--b$doc$ AS x WHERE toDateTime(1447328726)"),
        # In a comment nothing is.
        ("1 -- $__fromTime\n, 2", "1               \n, 2"),
        ("1 /* $__fromTime", "1               "),
        ("$__unknown(1)", "$__unknown(1)"),
    ],
)  # fmt: skip
def test_macros(given: str, expected: str) -> None:
    assert macros(given, YEAR) == expected


@pytest.mark.parametrize(
    "given", ["$__timeFilter()", "$__timeFilter_ms(a, b)", "$__dateTimeFilter(d)", "$__lttb(auto, x, y)"]
)
def test_what_is_not_expanded_is_an_error(given: str) -> None:
    with pytest.raises(ValueError, match=r"argument|not expanded"):
        macros(given, YEAR)


STUFF = "select stuff from table where $__conditionalAll(field in ($field), $field);"


@pytest.mark.parametrize(
    ("given", "chosen", "expected"),
    [
        (STUFF, {"field": "$__all"}, "select stuff from table where 1=1;"),
        (STUFF, {"field": ["$__all"]}, "select stuff from table where 1=1;"),
        (STUFF, {"field": ""}, "select stuff from table where 1=1;"),
        (STUFF, {"field": "'val1', 'val2'"}, "select stuff from table where field in ($field);"),
        (STUFF, {}, "select stuff from table where field in ($field);"),
        (
            "$__conditionalAll(a in ($a), $a) and $__conditionalAll(f(a, b) in ($b), ${b})",
            {"a": ["1", "2"], "b": "$__all"},
            "a in ($a) and 1=1",
        ),
    ],
)
def test_conditional_all(given: str, chosen: dict[str, str], expected: str) -> None:
    assert conditional_all(given, chosen) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("$one", "o'ne"),
        ("$many", "'a','b c'"),
        ("${many:singlequote}", "'a','b c'"),
        ("${one:singlequote}", r"'o\'ne'"),
        ("${one:sqlstring}", "'o''ne'"),
        ("${one:percentencode}", "o%27ne"),
        ("${many:queryparam}", "var-many=a&var-many=b%20c"),
        ("${many:customqueryparam:v}", "v=a&v=b%20c"),
        ("[[one:raw]]", "o'ne"),
        ("${__from:date:seconds}", "1415792726"),
        ("$other ${other:raw} $__timeFilter(x)", "$other ${other:raw} $__timeFilter(x)"),
    ],
)
def test_formats_of_variables(given: str, expected: str) -> None:
    assert interpolated(given, {"one": "o'ne", "many": ["a", "b c"], "__from": "1415792726123"}) == expected


def test_what_is_encoded_is_no_macro_and_no_quote() -> None:
    sql = "x = decodeURLComponent('${search:percentencode}')"
    assert expand(sql, {"search": "\\' OR $__fromTime --"}, YEAR) == (
        "x = decodeURLComponent('%5C%27%20OR%20%24__fromTime%20--')"
    )
