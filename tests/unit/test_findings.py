# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The register of checks, and its page."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.methods import preflight
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import CHECKS, METHODS
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.judgement import STALE

ROOT = Path(__file__).resolve().parents[2]
THEMES = ROOT / "plugins" / "module_utils" / "parts" / "preflight"
TESTS = "".join(
    path.read_text(encoding="utf-8")
    for theme in ("preflight", "rehearsal")
    for path in (ROOT / "tests/integration" / theme).rglob("test_*.py")
)


def generator():
    """docs/generate_findings.py, which is a program and no package."""
    spec = importlib.util.spec_from_file_location("generate_findings", ROOT / "docs" / "generate_findings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_says_what_the_checks_say():
    pages = generator()
    assert pages.PAGE.read_text(encoding="utf-8") == pages.page(), f"run docs/{Path(pages.__file__).name}"


def test_every_theme_is_registered():
    written = re.compile(r"^@(?:server|database)_check\(\s*\"(\w+)\"", re.MULTILINE)
    ids = {found for path in THEMES.glob("*.py") for found in written.findall(path.read_text(encoding="utf-8"))}
    assert ids == {check.id for check in preflight.CHECKS}


def test_ids_are_unique_nouns():
    ids = [check.id for check in CHECKS]
    assert len(ids) == len(set(ids))
    assert not [one for one in [*ids, STALE] if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", one)]
    assert STALE not in ids


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_check_is_described(check):
    assert check.title.endswith("."), "a sentence that is true when it is ok"
    assert check.function.__doc__, "why it is looked at"
    assert check.methods and set(check.methods) <= set(METHODS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_check_has_a_test_that_names_it(check):
    assert re.search(rf"[\"']{check.id}[\"']", TESTS), f"no test of preflights names {check.id}"


@pytest.mark.parametrize("page", ["docs/preflight.md", "plugins/modules/pg_preflight.py"])
def test_examples_name_checks_that_there_are(page):
    named = re.findall(r"^ *- id: (\w+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert named
    assert set(named) <= {check.id for check in CHECKS}
