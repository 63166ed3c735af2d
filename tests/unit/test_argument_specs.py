# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles and playbooks take is what their argument specifications say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in ROOT.glob("roles/*") if path.is_dir())
TYPES = {"bool": bool, "dict": dict, "float": (int, float), "int": int, "list": list, "path": str, "str": str}
VARIABLE = re.compile(r"(?<![\w.])handover_[a-z0-9_]+\b")


def load(path: Path):
    """A YAML file, or an empty mapping when there is none."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.exists() else {}


def options(role: str) -> dict:
    """Options of the role's main entry point."""
    return load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]


def defaults(role: str) -> dict:
    """The role's defaults."""
    return load(ROOT / "roles" / role / "defaults" / "main.yml")


def is_template(value) -> bool:
    """Whether a value is known only when the play runs."""
    return isinstance(value, str) and "{{" in value


def set_within(node) -> set[str]:
    """Names that tasks and plays set themselves: register, set_fact, vars, loop_var, add_host, group_by."""
    if isinstance(node, list):
        return {name for item in node for name in set_within(item)}
    if not isinstance(node, dict):
        return set()
    names = {name for item in node.values() for name in set_within(item)}
    names |= {value for key, value in node.items() if key in ("register", "loop_var", "index_var")}
    for key in ("vars", "set_fact", "ansible.builtin.set_fact", "ansible.builtin.add_host"):
        if isinstance(node.get(key), dict):
            names |= set(node[key]) | set(VARIABLE.findall(str(node[key].get("groups", ""))))
    names |= set(VARIABLE.findall(str(node.get("ansible.builtin.group_by", ""))))
    return names


def yaml_files(*folders: str) -> list[Path]:
    """YAML files below the folders, without argument specifications."""
    return sorted(
        path for folder in folders for path in (ROOT / folder).rglob("*.yml") if path.name != "argument_specs.yml"
    )


@pytest.mark.parametrize("role", ROLES)
def test_optional_options_have_defaults_and_required_ones_none(role):
    optional = {name for name, spec in options(role).items() if not spec.get("required")}
    assert optional == set(defaults(role))


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_the_specified_ones(role):
    specified = {name: spec.get("default") for name, spec in options(role).items() if not spec.get("required")}
    assert specified == defaults(role)


@pytest.mark.parametrize("role", ROLES)
def test_defaults_have_the_specified_types(role):
    wrong = {}
    for name, value in defaults(role).items():
        spec = options(role)[name]
        kind = spec.get("type", "str")
        if value is None or is_template(value) or kind in ("any", "raw"):
            continue
        if not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
            wrong[name] = f"{value!r} is no {kind}"
        if "choices" in spec and value not in spec["choices"]:
            wrong[name] = f"{value!r} is none of {spec['choices']}"
    assert not wrong


@pytest.mark.parametrize("role", ROLES)
def test_options_are_described(role):
    assert not {name for name, spec in options(role).items() if not spec.get("description")}


def test_a_variable_means_the_same_in_every_role():
    seen, differing = {}, {}
    for role in ROLES:
        for name, spec in options(role).items():
            meaning = (spec.get("type", "str"), spec.get("elements"), spec.get("default"))
            if seen.setdefault(name, meaning) != meaning:
                differing[name] = [seen[name], meaning]
    assert not differing


def test_every_variable_of_roles_and_playbooks_is_documented():
    files = yaml_files("roles", "playbooks")
    pages = [*ROOT.glob("README.md"), *(ROOT / "docs").rglob("*.md")]
    known = {name for role in ROLES for name in options(role)}
    known |= {name for page in pages for name in VARIABLE.findall(page.read_text(encoding="utf-8"))}
    known |= {name for path in files for name in set_within(load(path))}
    used = {name: path for path in files for name in VARIABLE.findall(path.read_text(encoding="utf-8"))}
    assert not {name: str(path.relative_to(ROOT)) for name, path in used.items() if name not in known}
