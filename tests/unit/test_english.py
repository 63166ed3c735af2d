# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users read is plain: no phrase that has to be read twice, nothing of "us", and one table is not "1 tables"."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ansible_collections.handover.postgresql.plugins.filter.counted import counted as filter_counted
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted((ROOT / "plugins").rglob("*.py"))
PAGES = [path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")) if path.name != "CHANGELOG.md"]
ROLES = sorted(
    path for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*") if path.suffix in (".yml", ".j2")
)
# What to write instead: CONTRIBUTING.md, "English".
PHRASES = [
    r"\bas which\b", r"\bas whom\b", r"\bby which\b", r"\bof which\b", r"\bmend(s|ed|ing)?\b",
    r"\bus\b", r"\bours?\b", r"\bwe\b", r"\boperator's word\b", r"\byour word\b",
    r"\bto be had\b", r"\bsees? to (it|all|both)\b", r"\blead(s|ing)? (the|an|your) application\b",
]  # fmt: skip
PLAIN = re.compile("|".join(PHRASES), re.IGNORECASE)
# A number of things that is put before a plural, whatever the number is: 1 tables.
THINGS = "tables|rows|objects|databases|roles|sequences|columns|errors|views|schemas|slots|attempts|statements"
PLURAL = re.compile(rf"(?<![\w.,:\[-])1 (?:(?!of )[a-z]+ )?({THINGS})\b")
COUNT = re.compile(r"(?:len|sum)$|count|number|^total")
# Words of SQL that runs, of a regular expression, or of what another program says, not of ours.
MACHINE = re.compile(r"\b(SELECT|FROM|WHERE|DO \$|EXISTS|CREATE FUNCTION)\b|\\[sdwb]|\(\?")


def sentences(path: Path) -> list[tuple[int, str]]:
    """(line, text) of each literal of a file that people read: not its docstrings, nor statements."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    passed = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []

    def look(node: ast.AST) -> None:
        if id(node) in passed:
            return
        if isinstance(node, (ast.JoinedStr, ast.Constant)):
            found.append((node.lineno, spoken(node)))
            children = [value.value for value in getattr(node, "values", []) if isinstance(value, ast.FormattedValue)]
        else:
            children = list(ast.iter_child_nodes(node))
        for child in children:
            look(child)

    look(tree)
    return [(line, text) for line, text in found if " " in text and not MACHINE.search(text)]


def spoken(node: ast.JoinedStr | ast.Constant) -> str:
    """A literal's text, with 1 for each number of things that it counts by itself, and X for other values."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join(
        spoken(part) if isinstance(part, ast.Constant) else "1" if is_count(part.value) else "X"  # type: ignore
        for part in node.values
    )


def is_count(node: ast.AST) -> bool:
    """Whether an expression is a number of things: ``len(names)``, ``found["number"]``."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and bool(COUNT.search(node.func.id)) and node.func.id != "counted"
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and bool(COUNT.search(str(node.slice.value)))
    return isinstance(node, (ast.Name, ast.Attribute)) and bool(
        COUNT.search(node.id if isinstance(node, ast.Name) else node.attr)
    )


def offending(path: Path, lines: list[tuple[int, str]]) -> list[str]:
    """The places of a file where one of the phrases stands."""
    name = path.relative_to(ROOT)
    return [f"{name}:{line}: {hit[0]!r} in {text[:200]!r}" for line, text in lines if (hit := PLAIN.search(text))]


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT / "plugins")))
def test_messages_and_options_are_plain(path):
    found = sentences(path)
    bad = offending(path, found)
    bad += [f"{path.name}:{line}: counts with a plural: {text[:200]!r}" for line, text in found if PLURAL.search(text)]
    assert bad == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_are_plain(path):
    text = re.sub(r'"[^"\n]*"|`[^`\n]*`', "...", path.read_text(encoding="utf-8"))  # quoted, so not said
    bad = offending(path, list(enumerate(text.splitlines(), 1)))
    assert bad == []


@pytest.mark.parametrize("path", ROLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_roles_and_playbooks_are_plain(path):
    text = path.read_text(encoding="utf-8")
    unread = (
        r"(^|\s)#.*|^\s*when: .*|\{#.*?#\}|\{\{.*?\}\}|\{%.*?%\}|^\s*\w+: (?=[\"{\[|>])"  # comments, expressions, names
    )
    bad = offending(path, [(line, re.sub(unread, "", text)) for line, text in enumerate(text.splitlines(), 1)])
    bad += [f"{path.name}: counts with a plural: {hit[0]}" for hit in re.finditer(rf"\}}\}} ({THINGS})\b", text)]
    assert bad == []


def test_the_phrases_are_found():
    said = ast.parse('f"{len(names)} tables, as which {what} works; mend it"').body[0].value
    assert spoken(said) == "1 tables, as which X works; mend it"
    assert PLURAL.search(spoken(said)) and PLAIN.search(spoken(said))
    assert not PLURAL.search(spoken(ast.parse("f\"{counted(len(names), 'table')}\"").body[0].value))
    assert not PLAIN.search("Confirm that the source is quiet. Fix the cause.")


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (0, "table", "0 tables"), (1, "table", "1 table"), (2, "index", "2 indexes"), (1, "index", "1 index"),
        (2, "text search dictionary", "2 text search dictionaries"), (2, "foreign key", "2 foreign keys"),
        (1234567, "row", "1,234,567 rows"), (2, "process", "2 processes"),
    ],
)  # fmt: skip
def test_counts(number, noun, said):
    assert counted(number, noun) == said


def test_nouns_that_are_counted_are_singular():
    nouns = {
        noun
        for path in CODE
        for noun in re.findall(r"counted\([^'\"]*['\"]([a-z ]+)['\"]\)", path.read_text(encoding="utf-8"))
    }
    assert len(nouns) > 20 and not {noun for noun in nouns if noun.endswith("s") and not noun.endswith("ss")}


def test_templates_count_with_the_filter():
    assert filter_counted(1, "table") == "1 table" and filter_counted("1234", "row") == "1,234 rows"
