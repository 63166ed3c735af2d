# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of a pair: what it keeps, what it shows, and that names are text whatever they hold."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from ansible_collections.handover.postgresql.plugins.plugin_utils.page import plots, sections, store
from ansible_collections.handover.postgresql.plugins.plugin_utils.page.page import as_html

SVG = "{http://www.w3.org/2000/svg}"
NASTY = """a</script><script>alert("1")</script>'&amp;{{ 1 }}\n<svg>"""
EMPTY = {"br", "col", "hr", "img", "input", "link", "meta"}  # elements that have no end


def at(minutes: float) -> str:
    return f"2026-11-29T{10 + int(minutes) // 60:02}:{int(minutes) % 60:02}:{round(minutes % 1 * 60):02}+00:00"


def run(playbook: str, minutes: float, by: str = "anna on control") -> dict:
    return {"playbook": playbook, "by": by, "at": at(minutes)}


def sample(minutes: float, copied: int, lag: float | None = None, retained: int | None = None) -> dict:
    amounts = {"copied_bytes": copied, "lag_seconds": lag, "retained_bytes": retained, "lag_bytes": retained}
    return {"at": at(minutes), **amounts}


def status(name: str = "shop", phase: str = "in_step", **more) -> dict:
    table = {
        "table": f"public.{name}",
        "bytes": 3 << 20,
        "rows": 7,
        "started": at(0),
        "copied": at(4),
        "indexed": at(6),
    }
    wave = {"number": 1, "tables": 2, "bytes": 8 << 20, "started": at(0), "copied": at(8), "subscribed": at(9)}
    return {
        "database": name, "target_database": name, "id": "0a1b2c3d4e", "phase": phase, "direction": "forward",
        "started": at(0), "copied": at(8), "in_step": at(10), "cut_over": None, "rolled_back": None, "stopped": None,
        "tables": {"waiting": 0, "copying": 0, "copied": 0, "indexed": 2, "at_cutover": 1},
        "bytes": {"total": 8 << 20, "copied": 8 << 20}, "lag": {"bytes": 0, "seconds": 0.5},
        "wal": {"server": "source", "retained_bytes": 1 << 20}, "errors": [], "notices": [], "drift": [],
        "waves": [wave], "slowest_tables": [table],
        "samples": [
            sample(2, 1 << 20), sample(4, 4 << 20), sample(12, 8 << 20, 30, 6 << 20), sample(20, 8 << 20, 2, 1 << 20)
        ],
        **more,
    }  # fmt: skip


def statuses(*them: dict) -> dict:
    ends = {side: {"server": {"version": version}} for side, version in (("source", "15.20"), ("target", "18.6"))}
    return {**ends, "databases": list(them)}


def window(name: str = "shop", direction: str = "forward") -> dict:
    steps = [{"step": "pause", "at_ms": 0.1, "ms": 3.2}, {"step": "lock", "at_ms": 4.0, "ms": 40.5}]
    return {
        "database": name, "direction": direction, "changed": True, "handed_over": True, "window_ms": 83.4,
        "home": "db2:5432", "way_back": True, "tables": 40, "sequences": 3, "timeline": steps, "notices": [],
    }  # fmt: skip


def finding(level: str, database: str | None = None, **more) -> dict:
    said = {"seen": f"{level} seen", "consequence": "It breaks.", "remedy": "DROP IT;", "objects": [], "methods": []}
    return {"id": "check", "level": level, "database": database, "waived": None, **said, **more}


def preflight(name: str = "shop", findings: list | None = None) -> dict:
    database = {"database": name, "bytes": 9 << 20, "tables": 3, "recommended_method": "continuous"}
    summary = {"blocker": 0, "warning": 1, "unknown": 0, "info": 0, "ok": 120, "waived": 0}
    role = {"name": "migrator"}
    ends = {side: {"address": f"{side}:5432", "version": "15.20", "role": role} for side in ("source", "target")}
    found = [finding("warning", name), finding("ok")] if findings is None else findings
    return {**ends, "databases": [database], "findings": found, "summary": summary, "method": "auto"}


def verified(name: str = "shop", verdict: str = "equal") -> dict:
    classes = {
        "rows": {"equal": 3, "different": 1, "unknown": 0, "left_out": 4},
        "domains": dict.fromkeys(sections.OUTCOMES, 0),
        "foreign_tables": {"equal": 2, "different": 0, "unknown": 0, "left_out": 0},
    }
    one = {
        "database": name, "target_database": name, "verdict": verdict, "classes": classes, "different": [],
        "unknown": [], "left_out": [], "rows": 1234, "tables": 3, "bytes": 9 << 20, "seconds": 2.5, "waited_ms": 1.5,
        "oldest_instant": at(30), "instant": {"live": True},
    }  # fmt: skip
    return {"databases": [one], "source": {"version": "15.20"}, "target": {"version": "18.6"}}


def dumped(name: str = "shop", **more) -> dict:
    export = {"stages": [{"stage": "pg_dump", "seconds": 30.0}], "bytes": 5 << 20, "snapshot": {"time": at(0)}}
    filled = {"stages": [{"stage": "data", "seconds": 60.0}], "rows_compared": 99, "tables_compared": 2}
    one = {"database": name, "complete": True, "error": None, "export": export, "import": filled, **more}
    return {"databases": [one], "source": {"version": "13.23"}, "target": {"version": "18.6"}}


def page(*reports: tuple) -> store.Page:
    """What is kept after reports: (kind, data) each, one a minute."""
    shown: store.Page = {}
    for minute, (kind, data) in enumerate(reports):
        shown = store.merged(shown, "pair", kind, data, run(kind, 30 + minute))
    return shown


def whole(name: str = "shop") -> store.Page:
    return page(
        ("preflight", preflight(name, [finding("warning", name), finding("info", name)])),
        ("rehearsal", {"databases": [{"database": name, "findings": [finding("blocker", name, seen=name)]}]}),
        ("status", statuses(status(name, notices=[name]))), ("verify", verified(name)),
        ("cutover", {"direction": "forward", "databases": [window(name)]}), ("dump", dumped(name, error=name)),
    )  # fmt: skip


class Read(HTMLParser):
    """Elements of a page, their text, and whether they are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[str] = []
        self.text: dict[str, str] = {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        assert not [name for name, value in attrs if name in ("src", "href") or name.startswith("on")], tag
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        place = self.open[-1] if self.open else ""
        self.text[place] = self.text.get(place, "") + data


def drawings(html: str) -> list[ElementTree.Element]:
    """Each plot of the page as XML, which SVG is."""
    found, depth, begin = [], 0, 0
    for tag in re.finditer(r"<(/?)svg\b", html):
        if not tag[1]:
            begin, depth = (tag.start() if not depth else begin), depth + 1
        else:
            depth -= 1
            if not depth:
                found.append(ElementTree.fromstring(html[begin : tag.end() + 1]))
    return found


def words(drawing: ElementTree.Element) -> list[str]:
    return [element.text for element in drawing.iter(f"{SVG}text") if element.text]


def section(html: str, name: str) -> str:
    return html.partition(f'<section id="{name}">')[2].partition("</section>")[0]


def test_every_plot_is_xml_and_has_the_numbers():
    html = as_html(whole())
    assert len(drawings(html)) == 10, (
        "timeline, window, shares of a class and all, four curves, tables, stages of the dump"
    )
    [cut] = drawings(section(html, "windows"))
    assert words(cut)[:4] == ["0", "50 ms", "100 ms", "pause: clients wait at the poolers"] and "40.5 ms" in words(cut)
    [_pause, lock] = [(one.get("x"), one.get("width")) for one in cut.iter(f"{SVG}rect")]
    assert lock == ("4.0%", "40.5%"), "of 100 ms"
    [shares, _whole] = drawings(section(html, "verification"))
    assert [one.get("width") for one in shares.iter(f"{SVG}rect")] == ["37.5%", "12.5%", "50.0%"]
    assert "Equal throughout: foreign tables 2." in section(html, "verification")
    [stages] = drawings(section(html, "dump"))
    halves = [(one.get("x"), one.get("width")) for one in stages.iter(f"{SVG}rect")]
    assert halves == [("0.0%", "33.333%"), ("33.333%", "66.667%")], "30 and 60 of 90 seconds"
    assert words(stages)[:4] == ["0", "30 s", "1 min", "1.5 min"]
    [timeline] = drawings(section(html, "timeline"))
    phases = [(one.get("class"), one.get("x"), one.get("width")) for one in timeline.iter(f"{SVG}rect")]
    names = ["copying", "catching_up", "in_step", "target"]
    assert phases == list(zip(names, ["0.0%", "23.529%", "29.412%", "99.6%"], ["23.529%", "5.883%", "70.588%", "0.4%"]))


def test_curves_go_where_the_samples_say():
    [copied, rate, lag, wal] = drawings(section_of_database(as_html(whole())))
    assert words(copied)[:5] == ["0", "2.0 MB", "4.0 MB", "6.0 MB", "8.0 MB"]
    line = copied.find(f".//{SVG}path[@class='one']").get("d")
    assert line == "M0.0,100.0 L250.0,87.5 L500.0,50.0 L1000.0,0.0", "0, 1, 4 and 8 of 8 MB; 0, 2, 4 and 8 of 8 min"
    steps = rate.find(f".//{SVG}path[@class='two']").get("d")
    assert len(steps.split()) == 6 and steps.startswith("M0.0,"), "three rates between four points"
    assert "30 s" in words(lag) and "10 s" in words(lag)
    assert "6.0 MB" in words(wal)


def section_of_database(html: str) -> str:
    """Its curves; the bars of tables come after them."""
    return html.partition('<section class="database">')[2].partition("<h3>")[0]


def test_names_are_text_whatever_they_hold():
    html = as_html(whole(NASTY))
    found = Read(html)
    assert found.found.count("script") == 1, "the data, which is no program"
    assert "alert(" not in found.text["script"].replace('alert(\\"1\\")', "")
    assert found.text["script"].count("<") == 0
    plain = as_html(whole())
    assert found.found == Read(plain).found, "the same elements as with a plain name"
    assert len(drawings(html)) == len(drawings(plain))
    assert NASTY in "".join(found.text.values()), "it is shown as it is"
    assert "{{ 1 }}" in html, "no template"


def test_a_page_can_be_read_again():
    shown = whole(NASTY)
    assert store.read(as_html(shown)) == shown
    assert store.read(None) == store.read("") == store.read("<html>of somebody else</html>") == {}
    cut_off = as_html(shown)
    assert store.read(cut_off[: cut_off.index('"pair"')]) == {}


def test_nothing_comes_from_elsewhere():
    html = as_html(whole())
    assert not re.search(r"(?<!xmlns=\")https?://|@import|url\(", html)
    assert Read(html).found.count("style") == 1


def test_samples_outlive_the_journal():
    kept = page(("status", statuses(status())), ("status", statuses({"database": "shop", "phase": "none"})))
    [one] = kept["status"]["databases"]
    assert len(one["samples"]) == 4 and one["seen"]["phase"] == "none"
    assert kept["status"]["source"] == {"server": {"version": "15.20"}}
    handed_over = page(
        ("status", statuses(status(phase="handed_over", cut_over=at(25)))),
        ("status", {"databases": [{"database": "shop", "phase": "none"}]}),
    )
    assert sections.sections(handed_over)["headline"] == {"look": "good", "text": "Finished"}
    given_up = page(
        ("status", statuses(status())), ("status", {"databases": [{"database": "shop", "phase": "abandoned"}]})
    )
    assert sections.sections(given_up)["headline"] == {"look": "neutral", "text": "Abandoned"}
    assert len(given_up["status"]["databases"][0]["samples"]) == 4


def test_looks_without_samples_add_one_each():
    looked = status(samples=[])
    watched = {
        "database": "shop",
        "phase": "in_step",
        "guards": [],
        "status": {**looked, "lag": {"bytes": 5, "seconds": 9}},
    }
    kept = page(("status", statuses(status())), ("status", statuses(watched)))
    samples = kept["status"]["databases"][0]["samples"]
    assert len(samples) == 5 and samples[-1]["lag_seconds"] == 9
    another = page(("status", statuses(status())), ("status", statuses({**looked, "id": "another"})))
    assert len(another["status"]["databases"][0]["samples"]) == 1


def test_thinning_keeps_the_peaks():
    many = [sample(index / 60, index, 100 if index == 777 else 1) for index in range(store.POINTS * 2)]
    few = store.thinned(many)
    assert len(few) == store.POINTS and max(one["lag_seconds"] for one in few) == 100
    assert few[-1]["at"] == many[-1]["at"]


def test_every_window_is_kept_and_reports_of_some_databases_leave_the_others():
    there = {"direction": "forward", "databases": [window("a"), {**window("b"), "changed": False}]}
    back = {"direction": "back", "databases": [window("a", "back")]}
    kept = page(("cutover", there), ("rollback", back), ("verify", verified("a")), ("verify", verified("b")))
    assert [(one["database"], one["direction"]) for one in kept["windows"]] == [("a", "forward"), ("a", "back")]
    assert [one["database"] for one in kept["verify"]["databases"]] == ["a", "b"]


def test_the_same_run_again_is_counted():
    kept: store.Page = {}
    for minute in range(3):
        kept = store.merged(kept, "pair", "status", statuses(status()), run("watch", minute))
    kept = store.merged(kept, "pair", None, None, run("finish", 9, by="ben on control"))
    kept = store.merged(kept, "pair", "status", statuses(status()), run("", 10))
    assert [(one["playbook"], one["times"]) for one in kept["runs"]] == [("watch", 3), ("finish", 1)]
    assert kept["runs"][0]["first"] == at(0) and kept["runs"][0]["last"] == at(2)


@pytest.mark.parametrize(
    ("shown", "there"),
    [
        (page(("preflight", preflight())), {"ends", "preflight", "runs"}),
        (page(("dump", dumped())), {"ends", "dump", "runs"}),
        (store.merged({}, "pair", None, None, run("finish", 1)), {"ends", "runs"}),
    ],
)
def test_what_is_not_known_has_no_section(shown, there):
    assert set(re.findall(r'<section id="(\w+)"', as_html(shown))) == there


def test_what_is_missing_is_said():
    bare = status(samples=[], waves=[], slowest_tables=[], phase="copying", copied=None, in_step=None, tables=None)
    bare.update(bytes={"total": None, "copied": None}, lag={"bytes": None, "seconds": None})
    bare["wal"] = {"server": None, "retained_bytes": None}
    html = as_html(page(("status", statuses(bare))))
    assert "How much was copied, and when, is not known." in html
    assert "Lag and WAL were not sampled." in html


def test_an_incomplete_dump_is_no_success():
    half = {"export": None, "import": None, "complete": False, "error": "The disk is full."}
    html = as_html(page(("dump", dumped(**half))))
    assert "The disk is full." in html and "1 database not brought over" in html


@pytest.mark.parametrize(
    ("highest", "unit", "ticks"),
    [
        (8 << 20, "B", ["0", "2.0 MB", "4.0 MB", "6.0 MB", "8.0 MB"]),
        (1900, "B/s", ["0", "512 B/s", "1.0 kB/s", "1.5 kB/s", "2.0 kB/s"]),
        (0.013, "s", ["0", "5 ms", "10 ms", "15 ms"]),
        (250, "s", ["0", "2 min", "4 min", "6 min"]),
        (100, "s", ["0", "30 s", "1 min", "1.5 min", "2 min"]),
        (0, "B", ["0", "1 B"]),
        (83, "ms", ["0", "50 ms", "100 ms"]),
    ],
)
def test_ticks_are_round(highest, unit, ticks):
    assert [tick["label"] for tick in plots.Amounts(highest, unit).ticks()] == ticks


@pytest.mark.parametrize(
    ("length", "ticks"),
    [
        (20, ["10:00:00", "10:00:05", "10:00:10", "10:00:15", "10:00:20"]),
        (3 * 3600, ["10:00", "10:30", "11:00", "11:30", "12:00", "12:30", "13:00"]),
        (2 * 86400, ["12:00", "30 Nov", "12:00", "01 Dec"]),
        (5 * 86400, ["30 Nov", "01 Dec", "02 Dec", "03 Dec", "04 Dec"]),
    ],
)
def test_times_are_round(length, ticks):
    begin = plots.seconds(at(0))
    assert [tick["label"] for tick in plots.TimeAxis([begin, begin + length]).ticks()] == ticks


@pytest.mark.parametrize(
    ("length", "text"),
    [(0, "0 s"), (0.08, "80 ms"), (12.3, "12.3 s"), (60, "1 min"), (750, "12 min 30 s"), (11100, "3 h 5 min")],
)
def test_spans(length, text):
    assert plots.span(length) == text


def test_times_of_servers_are_read():
    moments = ["2026-11-29T10:00:00.5+00:00", "2026-11-29 10:00:00.5+00", "2026-11-29T11:00:00.500000+01:00"]
    assert len({plots.seconds(one) for one in moments}) == 1
