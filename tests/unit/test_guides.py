# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What README.md and the guides name is there, and what is there is named."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.handover.postgresql.plugins.module_utils.base.arguments import CONNECTION
from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring.metrics import LOOKED, METRICS
from ansible_collections.handover.postgresql.plugins.plugin_utils.variables import KNOWN

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
VARIABLE = re.compile(r"`(handover_[a-z0-9_]*[a-z0-9])\b[^`]*`")
NO_VARIABLES = {"handover_schema", "handover_shop"}  # a check, a role
NO_VARIABLES |= {metric.name for metric in (*METRICS, LOOKED)}


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


PROVIDERS = sorted(path for path in (ROOT / "docs" / "providers").glob("*.md") if path.name != "README.md")


def sentences() -> str:
    """Every text in the code, with ... for what is put into it, and the texts of the roles."""
    found = []
    for path in (ROOT / "plugins").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    found += [path.read_text(encoding="utf-8") for path in (ROOT / "roles").rglob("*.yml")]
    return re.sub(r"\s+", " ", "\n".join(found))


def test_messages_of_the_troubleshooting_page_are_those_of_the_code():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `(.+?)` \|", page, re.MULTILINE)
    code = sentences()
    parts = {part.strip() for message in messages for part in message.split("...") if len(part.strip()) > 4}
    assert len(messages) > 20
    assert sorted(part for part in parts if part not in code) == []


@pytest.mark.parametrize("page", PROVIDERS, ids=lambda page: page.name)
def test_a_page_of_a_service_has_an_inventory_and_sources(page):
    text = page.read_text(encoding="utf-8")
    [shown] = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for variables in yaml.safe_load(shown)["all"]["children"]["handover_pairs"]["hosts"].values():
        ours = {name: value for name, value in variables.items() if name.startswith("handover_")}
        assert set(ours) >= {"handover_source", "handover_target", "handover_databases"}
        assert set(ours) <= KNOWN
        assert set(ours["handover_source"]) | set(ours["handover_target"]) <= set(CONNECTION)
    sources = text.partition("## Sources")[2]
    assert re.search(r"\]\(https://[^)]+\)", sources) and "read on 20" in sources
    assert f"({page.name})" in (page.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8"))
    assert not [link for link, _anchor in links if not (page.parent / link).exists()]
    goals = {(page.parent / link if link else page, anchor) for link, anchor in links if anchor}
    assert not [(goal.name, anchor) for goal, anchor in goals if anchor not in anchors(goal)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_variables_exist(page):
    files = [path for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*.yml")]
    known = {name for path in files for name in re.findall(r"handover_[a-z0-9_]+", path.read_text(encoding="utf-8"))}
    assert set(VARIABLE.findall(page.read_text(encoding="utf-8"))) <= known | NO_VARIABLES


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_every_playbook_is_in_the_readme_and_in_the_project_for_awx(name):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"`{name}`" in readme.partition("\n| playbook |")[2].partition("\n\n")[0]
    awx = ROOT / "docs" / "examples" / "awx" / f"{name}.yml"
    assert f"import_playbook: handover.postgresql.{name}\n" in awx.read_text(encoding="utf-8")
