# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows from findings, and how a report looks."""

from __future__ import annotations

import re

import pytest

from ansible_collections.handover.postgresql.plugins.filter.render_report import render_report
from ansible_collections.handover.postgresql.plugins.module_utils.methods import preflight
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import (
    GIVE_TARGET,
    METHODS,
    Finding,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.judgement import (
    by_database,
    next_of,
    recommend,
    waive,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.rates import (
    ESTIMATED,
    ReadRates,
    estimate,
)

NASTY = 'x; "y" | `z`\n\x1b[2J_a_'


def finding(level: str, check: str, database: str | None = "shop", **more) -> Finding:
    return Finding(level, more.pop("seen", f"{check} was seen."), id=check, database=database, **more)


# --- waivers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waiver", "matches"),
    [
        ({"id": "unlogged"}, True),
        ({"id": "unlogged", "database": "shop"}, True),
        ({"id": "unlogged", "database": "blog"}, False),
        ({"id": "logged"}, False),
        ({"id": "unlogged", "objects": ["a", "b", "c"]}, True),
        ({"id": "unlogged", "objects": ["a"]}, False),
        ({"id": "fine"}, False),
        ({"id": "no_objects", "objects": ["a"]}, False),
    ],
)
def test_waiver_matches(waiver, matches):
    findings = [
        finding("warning", "unlogged", objects=["a", "b"]),
        finding("ok", "fine"),
        finding("warning", "no_objects"),
    ]
    waive(findings, [{**waiver, "reason": "so"}])
    assert [one.id for one in findings if one.waived == "so"] == ([waiver["id"]] if matches else [])
    assert [one.id for one in findings[3:]] == ([] if matches else ["waivers"])


def test_stale_waiver_says_whether_there_is_such_a_check():
    findings = []
    waive(findings, [{"id": check, "reason": "so"} for check in (preflight.CHECKS[0].id, "wall_level")])
    assert ["There is no check" in one.seen for one in findings] == [False, True]


# --- methods ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("findings", "method", "feasible", "best"),
    [
        ([], "auto", ["dump", "continuous"], "continuous"),
        ([], "dump", ["dump", "continuous"], "dump"),
        ([finding("blocker", "wal", None, methods=("continuous",))], "auto", ["dump"], "dump"),
        ([finding("blocker", "wal", None, methods=("continuous",))], "continuous", ["dump"], None),
        ([finding("blocker", "wal", "blog")], "auto", ["dump", "continuous"], "continuous"),
        ([finding("blocker", "wal")], "auto", [], None),
        ([finding("blocker", "wal", waived="so")], "auto", ["dump", "continuous"], "continuous"),
        ([finding("warning", "wal"), finding("unknown", "lan")], "auto", ["dump", "continuous"], "continuous"),
    ],
)
def test_recommendation(findings, method, feasible, best):
    judged = recommend(findings, "shop", method)
    assert judged["feasible_methods"] == feasible
    assert judged["recommended_method"] == best
    assert judged["reasons"]
    assert any("could not look" in reason for reason in judged["reasons"]) == any(
        one.level == "unknown" for one in findings
    )


# --- estimates -------------------------------------------------------------------------------------------------------

SIZES = {"bytes": 4000, "table_bytes": 1800, "large_object_bytes": 200}


def test_nothing_is_estimated_without_measurement():
    assert estimate(SIZES, None, None) == {**dict.fromkeys(ESTIMATED), "target_bytes": 4000}


def test_estimate_follows_the_slowest_part():
    reading = ReadRates("t", bytes_per_second=100, compressed_per_second=50, text_ratio=0.5, file_ratio=0.1)
    result = estimate(SIZES, reading, writing=40)
    assert result["dump_bytes"] == 200
    assert result["export_seconds"] == 40, "compressing is slower than reading"
    assert result["import_seconds"] == 25, "1000 bytes of text at 40 a second"
    assert result["copy_seconds"] == 25, "writing is slower than reading"


# --- rendering -------------------------------------------------------------------------------------------------------


def server(**more) -> dict:
    role = {"name": "me", "attributes": ["createdb"], "member_of": [], "may": {"create_roles": False}}
    return {
        "address": "db:5432",
        "version": "15.1",
        "in_recovery": False,
        "provider_hints": [],
        "role": role,
        "settings": {"wal_level": "logical"},
        **more,
    }


def report(*findings: Finding, target: dict | None = None, names=("shop",)) -> dict:
    largest = [{"table": f"public.t{number}", "bytes": 2048, "rows_estimated": 1} for number in range(5)]
    databases = [
        {
            "database": name,
            "bytes": 5 * 1024**3,
            "tables": 5,
            "rows_estimated": 1234567,
            "tables_never_analyzed": 1,
            "largest_tables": largest,
            "estimate": estimate(SIZES, None, None),
            **recommend([*findings], name, "auto"),
        }
        for name in names
    ]
    return {
        "source": server(),
        "target": target,
        "databases": databases,
        "findings": [one.as_result() for one in findings],
    }


WORST_FIRST = [
    finding("blocker", "first", remedy="ALTER TABLE a;\nALTER TABLE b;", objects=[f"public.t{n}" for n in range(9)]),
    finding("warning", "second", consequence="It breaks.", methods=("dump",)),
    finding("warning", "accepted", waived="Discussed."),
    finding("unknown", "third", remedy=GIVE_TARGET),
    finding("unknown", "fourth", remedy=GIVE_TARGET),
    finding("info", "fifth"),
    finding("ok", "sixth"),
    finding("ok", "seventh"),
]


def rows(text: str) -> list[list[str]]:
    """The rows of a text's tables, cells joined over their lines."""
    found = []
    line = re.compile(r"^(\w*) +(?:(\S+|\d \w+)  )? *(.*)$", re.MULTILINE)
    for level, check, what in line.findall(text.split("\nlevel", 1)[1]):
        if level in ("blocker", "warning", "unknown", "info", "waived"):
            found.append([level, check, what])
        elif found and what and not level:
            found[-1][2] += " " + what
    return found


def test_text_has_a_row_for_each_finding_worst_first():
    table = rows(render_report(report(*WORST_FIRST)))
    assert [row[:2] for row in table] == [
        ["blocker", "first"],
        ["warning", "second"],
        ["info", "fifth"],
        ["waived", "accepted"],
        ["unknown", "2 checks"],
    ]
    assert "public.t0, public.t1, public.t2, public.t3, public.t4 and 4 more" in table[0][2]
    assert table[0][2].endswith("Remedy: ALTER TABLE a; ALTER TABLE b;")
    assert table[1][2] == "second was seen. It breaks. (dump only)"
    assert table[3][2] == "warning: accepted was seen. Waived: Discussed."
    assert table[4][2] == "Not checked without a target: third, fourth."


def test_text_counts_what_is_ok():
    text = render_report(report(*WORST_FIRST))
    assert "1 blocker, 1 warning, 2 unknown, 1 info, 2 ok, 1 waived" in text
    assert "sixth" not in text
    assert "ok: 2 checks" in text


def test_text_describes_each_database():
    text = render_report(report(finding("blocker", "b", "blog"), names=("shop", "blog")))
    shop, blog = (text.index(f"Database {name}\n") for name in ("shop", "blog"))
    assert shop < blog < text.index("No method is feasible. In the way of continuous: b.")
    assert "5.0 GB, 5 tables, about 1,234,567 rows, besides 1 table never analyzed." in text
    assert "Largest tables: public.t0 2.0 kB, public.t1 2.0 kB, public.t2 2.0 kB and 2 more." in text


def test_text_keeps_to_its_width_and_sql_stays_whole():
    long = finding("warning", "long", seen="word " * 60, remedy=f"DROP TABLE {'x' * 150};")
    lines = render_report(report(long, target=server()), width=80).splitlines()
    assert [line for line in lines if len(line) > 80] == [line for line in lines if "xxx" in line]
    assert any(line.endswith(f"{'x' * 150};") for line in lines)


STATEMENTS = """\
ALTER TABLE "Lager & Größe"."-- comment; DROP TABLE x" REPLICA IDENTITY FULL; -- better: a primary key, if columns fit
SELECT dblink_connect('host=127.0.0.1 port=33015 user=postgres dbname=shop sslmode=prefer connect_timeout=5');
-- and 8 more like these, which are all as long as these, so that this comment does not fit into one line either"""


@pytest.mark.parametrize("width", [50, 70, 100, 1000])
@pytest.mark.parametrize("remedy", [STATEMENTS, STATEMENTS.splitlines()[0]])
def test_sql_that_was_wrapped_is_the_same_sql(remedy, width):
    def without_layout(sql):
        code = re.sub(r"^ *-- .*\n?|; -- .*$", lambda found: ";" if found[0][0] == ";" else "", sql, flags=re.MULTILINE)
        return " ".join(code.split())

    text = render_report(report(finding("info", "c", remedy=remedy)), width=width)
    shown = text.partition("Remedy:\n")[2].partition("\n\n")[0]
    assert without_layout(shown) == without_layout(remedy)
    for quoted in re.findall("\".*?\"|'.*?'", remedy):
        assert quoted in shown


def test_apostrophes_are_no_quotes():
    text = render_report(report(finding("info", "c", remedy="The target's role lacks it. " * 9 + "It's so.")), width=80)
    assert max(map(len, text.splitlines())) <= 80


def test_findings_of_a_database_that_was_not_looked_at_are_shown():
    text = render_report(report(finding("warning", "waivers", "gone")))
    assert "Database gone, which was not looked at" in text
    assert ["warning", "waivers", "waivers was seen."] in rows(text)


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_names_cannot_control_a_terminal_or_break_a_table(form):
    nasty = finding("warning", "c", NASTY, seen=NASTY, objects=[NASTY], remedy=NASTY, waived=NASTY)
    text = render_report(report(nasty, finding("blocker", "d", NASTY, objects=[NASTY]), names=(NASTY,)), NASTY, form)
    assert "\x1b" not in text
    assert "\\x1b[2J" in text.replace("\\\\", "\\").replace("\\[", "[")
    if form == "markdown":
        tables = re.findall(r"(?:^\| .*\n)+", text, re.MULTILINE)
        cells = [{len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()} for table in tables]
        assert all(len(numbers) == 1 for numbers in cells), "as many cells in each row of a table"


def test_markdown_has_tables_of_everything():
    text = render_report(report(*WORST_FIRST, target=server(version="18.1")), "pair", "markdown")
    assert "# Preflight of pair\n" in text
    assert "| target | db:5432 | PostgreSQL 18.1 | role me: createdb |" in text
    assert "<br>`ALTER TABLE b;` |" in text
    assert "| `wal_level` | logical | logical |" in text
    assert "| create roles | no | no |" in text


def test_every_method_has_a_place_in_the_order():
    assert {recommend([], "shop", method)["recommended_method"] for method in METHODS} == set(METHODS)


# --- many databases --------------------------------------------------------------------------------------------------


class CountedList(list):
    """A list that knows how often somebody went over it."""

    times = 0

    def __iter__(self):
        self.times += 1
        return super().__iter__()


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_findings_are_gone_over_as_often_for_many_databases(form):
    """Ansible's own lists are slow to go over, and two hundred databases have fifteen thousand findings."""
    times = []
    for number in (2, 20):
        names = [f"shop_{n}" for n in range(number)]
        shown = report(*(finding("warning", "unlogged", name) for name in names), names=names)
        shown["findings"] = CountedList(shown["findings"])
        text = render_report(shown, "pair", form)
        assert text.count("unlogged was seen.") == number
        times.append(shown["findings"].times)
    assert times[0] == times[1]


def test_findings_of_a_database_are_its_own_and_the_servers():
    findings = [finding("ok", "a", "shop"), finding("ok", "b", "blog"), finding("ok", "c", None)]
    concerning = by_database(findings)
    assert {name: [one.id for one in concerning(name)] for name in ("shop", "blog", "new")} == {
        "shop": ["c", "a"],
        "blog": ["c", "b"],
        "new": ["c"],
    }


@pytest.mark.parametrize(
    ("level", "check", "expected"),
    [("info", "home", "under_way"), ("blocker", "home", None), ("ok", "home", None), ("info", "unlogged", None)],
)
def test_only_migrations_that_have_begun_are_under_way(level, check, expected):
    assert next_of([finding(level, check)]) == expected
