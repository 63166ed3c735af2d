# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles, playbooks and modules take is what they say, under one name."""

from __future__ import annotations

import functools
import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from ansible_collections.handover.postgresql.plugins.filter.given import given
from ansible_collections.handover.postgresql.plugins.plugin_utils.variables import (
    KNOWN,
    OF_PLAYBOOKS,
    OF_ROLES,
    refusals,
    unknown,
)

PLUGINS = "ansible_collections.handover.postgresql.plugins"
ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in ROOT.glob("roles/*") if path.is_dir() and path.name != "common")  # is internal
MODULES = sorted(path.stem for path in ROOT.glob("plugins/modules/*.py"))
TYPES = {"bool": bool, "dict": dict, "float": (int, float), "int": int, "list": list, "path": str, "str": str}
TYPE = "we were unable to convert to "
VARIABLE = re.compile(r"(?<![\w.])handover_[a-z0-9_]+\b")


@functools.cache
def load(path: Path):
    """A YAML file, or an empty mapping when there is none. Nobody changes what is returned."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.exists() else {}


# Options of modules that no variable gives, and why.
NOT_FROM_THE_INVENTORY = {
    "data": "what was found is what is reported",
    "each_by_itself": "the roles say it where they work on several databases",
    "former_page": "the action has read it",
    "include": "the roles' steps are tasks of their own, with tags",
    "kind": "each report has its own",
    "markdown": "what was found is what is reported",
    "name": "the report is called like the pair",
    "page": "the action has made it",
    "playbook": "each knows what it is",
    "settings": "the role source knows what it has written into files",
    "state": "each state is an entry point of its own",
    "target_version": "the role dump looks at the target",
    "text": "what was found is what is shown",
}
# Variables that are no options of modules: what the roles do besides calling these.
OF_THE_ROLES_THEMSELVES = {
    "accept_pending", "allow_restart", "firewall_tasks", "metrics_directory", "rehearse",
    "replication_password_file", "restart_command", "restart_service", "restart_timeout", "source_host",
    "source_is_gone", "source_is_ready", "switch_tasks", "throttle", "transport",
}  # fmt: skip


def entry_points(role: str) -> dict:
    """The role's entry points, with their options."""
    return load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]


def options(role: str) -> dict:
    """Options of all entry points of the role, each once."""
    return {name: spec for entry in entry_points(role).values() for name, spec in entry["options"].items()}


def module_options(module: str) -> dict:
    """Options of a module, with those of the fragments that it shares with others."""
    documented = yaml.safe_load(import_module(f"{PLUGINS}.modules.{module}").DOCUMENTATION)
    found = {}
    for fragment in documented.get("extends_documentation_fragment", []):
        _namespace, _collection, file, *section = fragment.split(".")
        blocks = import_module(f"{PLUGINS}.doc_fragments.{file}").ModuleDocFragment
        found.update(
            yaml.safe_load(getattr(blocks, section[0].upper() if section else "DOCUMENTATION")).get("options", {})
        )
    own = documented.get("options") or {}
    return {name: {**found.get(name, {}), **own.get(name, {})} for name in {**found, **own}}


def calls(node) -> list:
    """The arguments of every call of one of our modules in tasks, with the module's name."""
    if isinstance(node, list):
        return [call for item in node for call in calls(item)]
    if not isinstance(node, dict):
        return []
    prefix = "handover.postgresql."
    ours = [(name[len(prefix) :], value) for name, value in node.items() if str(name).startswith(prefix)]
    return ours + [call for value in node.values() for call in calls(value)]


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
    known |= {f"handover_{name}" for name in OF_PLAYBOOKS}
    used = {name: path for path in files for name in VARIABLE.findall(path.read_text(encoding="utf-8"))}
    assert not {name: str(path.relative_to(ROOT)) for name, path in used.items() if name not in known}


@pytest.mark.parametrize("role", ROLES)
def test_an_entry_point_is_a_file_and_other_files_are_used_by_one(role):
    folder = ROOT / "roles" / role / "tasks"
    files = {path.stem for path in folder.glob("*.yml")}
    assert set(entry_points(role)) <= files
    texts = "".join(path.read_text(encoding="utf-8") for path in yaml_files("roles", "playbooks"))
    used = set(re.findall(r"(?:import|include)_tasks: (\w+)[.]yml|tasks_from: (\w+)", texts))
    assert files - set(entry_points(role)) <= {name for pair in used for name in pair}


@pytest.mark.parametrize("module", MODULES)
def test_a_variable_has_the_name_of_the_option(module):
    known = {name for role in ROLES for name in options(role)}
    unknown = {name for name in module_options(module) if f"handover_{name}" not in known}
    assert unknown <= set(NOT_FROM_THE_INVENTORY)


@pytest.mark.parametrize("module", [name for name in MODULES if name != "show"])
def test_every_option_is_handed_on_by_a_role(module):
    given = {}
    for path in yaml_files("roles"):
        for name, arguments in calls(load(path)):
            if name == module:
                given.update({option: str(value) for option, value in (arguments or {}).items()})
    left_out = {
        "pg_direct_copy": {"ignore_databases"},  # it is given names
        "write_report": {"page", "former_page"},  # its action gives them
    }.get(module, set())
    assert set(given) | {"state"} == set(module_options(module)) - left_out | {"state"}


def test_what_is_no_option_of_a_module_is_a_matter_of_the_roles():
    known = {name[len("handover_") :] for role in ROLES for name in options(role)}
    assert known - {name for module in MODULES for name in module_options(module)} == OF_THE_ROLES_THEMSELVES


def test_an_option_means_the_same_in_every_module():
    seen, differing = {}, {}
    for module in MODULES:
        for name, spec in module_options(module).items():
            meaning = (spec.get("type"), spec.get("elements"), spec.get("choices"))
            if name != "state" and seen.setdefault(name, meaning) != meaning:
                differing[module, name] = [seen[name], meaning]
    assert not differing


def test_the_variables_that_the_filter_knows_are_those_of_the_roles():
    assert sorted(f"handover_{name}" for name in OF_ROLES) == sorted({n for role in ROLES for n in options(role)})


def test_a_variable_that_nobody_knows_is_named_with_the_closest_one():
    assert unknown(KNOWN) == []
    assert unknown(["handover_databses", "handover_jobs"]) == [
        "There is no variable handover_databses; the closest is handover_databases."
    ]
    assert unknown(["handover_"]) != []


@pytest.mark.parametrize(
    "errors, given, is_pair, said",
    [
        ([], {"handover_source": {}}, True, None),
        (["missing required arguments: handover_target"], {}, True, "handover_target is missing. Set it in"),
        (["missing required arguments: handover_source, handover_target"], {}, False, "into the group handover_pairs"),
        ([f"argument 'handover_source' is of type str and {TYPE}dict: x"], {"handover_source": "x"}, True, "{uri: "),
        ([], {"handover_source": "postgresql://h/d?a=b"}, True, "handover_source is a string. Write it as"),
        ([f"argument 'handover_jobs' is of type str and {TYPE}int: x"], {}, True, "is a str, and has to be a int"),
        (["value of handover_no_identity must be one of: a, got: b"], {}, True, "must be one of: a, got: b."),
    ],
)
def test_what_a_spec_refuses_is_said_in_sentences(errors, given, is_pair, said):
    found = " ".join(refusals(errors, given, "handover.postgresql.dump", is_pair))
    assert said in found and "unable" not in found if said else not found


def test_what_roles_take_for_a_blank_answer_is_the_default():
    assert [given("", 1), given(None, 1), given(False, 1), given(0, 1), given([], 1)] == [1, 1, False, 0, []]
    specified = {name: spec.get("default") for role in ROLES for name, spec in options(role).items()}
    files = [path for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*") if path.is_file()]
    used = re.compile(
        r"\b(handover_\w+)(?: \| default\(''\))?\s*\| handover[.]postgresql[.]given\(((?:[^()]|\([^()]*\))*)\)"
    )
    found = [pair for path in files for pair in used.findall(path.read_text(encoding="utf-8"))]
    plain = {(name, yaml.safe_load(text)) for name, text in found if "~" not in text}
    assert len(plain) > 5
    assert {name: value for name, value in plain if value != specified[name] and value != "none"} == {}
    templates = {(name, re.sub(r"\W", "", text)) for name, text in found if "~" in text}
    assert len(templates) == 3
    assert {name: text for name, text in templates if text != re.sub(r"\W", "", specified[name])} == {}


def test_a_blank_answer_is_never_taken_for_a_bool():
    """The filter would warn. Without an answer to source_is_quiet, a dump is refused before."""
    texts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "roles").rglob("*") if path.is_file())
    assert set(re.findall(r"(?<![\w.])handover_\w+(?= \| bool)", texts)) <= {"handover_source_is_quiet"}


@pytest.mark.parametrize("module", MODULES)
def test_what_a_module_returns_has_a_sample(module):
    """Or what it contains is described."""
    returned = yaml.safe_load(import_module(f"{PLUGINS}.modules.{module}").RETURN) or {}
    assert [name for name, value in returned.items() if not {"sample", "contains"} & set(value)] == []


@pytest.mark.parametrize("path", sorted((ROOT / "playbooks").glob("*.yml")), ids=lambda path: path.stem)
def test_a_playbook_leaves_the_check_of_variables_to_the_collection(path):
    """Ansible's own would take a blank answer for a value."""
    roles = [task["ansible.builtin.import_role"] for play in load(path) for task in play["tasks"]]
    assert roles and all(role["rolespec_validate"] is False for role in roles)
    assert "default(1)" not in path.read_text(encoding="utf-8")
