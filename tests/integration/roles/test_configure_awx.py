# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/examples/configure_awx.yml: its arguments are those of the modules of awx.awx, and fit together."""

from __future__ import annotations

import importlib.util
import json
import os

import pytest
import yaml
from awx_collection import PART, awx_collection
from support import COLLECTIONS, ROOT, run_playbook

from ansible_collections.handover.postgresql.plugins.plugin_utils.variables import KNOWN

EXAMPLES = ROOT / "docs" / "examples"
PLAYBOOK = EXAMPLES / "configure_awx.yml"
SPECIFIED = {
    name: spec
    for path in ROOT.glob("roles/*/meta/argument_specs.yml")
    for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values()
    for name, spec in entry["options"].items()
}


@pytest.fixture(scope="module")
def place():
    return awx_collection()


@pytest.fixture
def configure(place, tmp_path):
    """What each module was given, and the result."""

    def run(playbook=PLAYBOOK):
        record = tmp_path / "record"
        record.touch()
        paths = {"ANSIBLE_COLLECTIONS_PATH": f"{place}{os.pathsep}{COLLECTIONS}", "AWX_RECORD": str(record)}
        secrets = {
            "vault_source_password": "of the source's postgres",
            "vault_target_password": "of the target's admin",
        }
        given = {
            "awx_webhook_url": "https://chat.example.com/x",
            "vault_replication_password": "of the stream",
            **secrets,
        }
        local = {"all": {"hosts": {"localhost": {"ansible_connection": "local"}}}}
        result = run_playbook(playbook, local, extra_vars=given, env=paths)
        calls = {}
        for line in record.read_text().splitlines():
            name, arguments = json.loads(line)
            calls.setdefault(name, {})[arguments["name"]] = arguments
        return calls, result

    return run


def suboptions(place):
    """Keys that a node of a workflow takes: the module reads them by hand, and its documentation has them."""
    file = place / PART / "plugins" / "modules" / "workflow_job_template.py"
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location("documented", file))
    text = file.read_text()
    exec(text[text.index("DOCUMENTATION") : text.index("EXAMPLES")], module.__dict__)
    return yaml.safe_load(module.DOCUMENTATION)["options"]["workflow_nodes"]["suboptions"]


def unknown_keys(node, options, path=""):
    """Keys anywhere in a node that the documentation does not have."""
    found = []
    for key, value in node.items():
        if key not in options:
            found.append(f"{path}{key}")
            continue
        within = options[key].get("suboptions")
        for part in value if isinstance(value, list) else [value]:
            if within and isinstance(part, dict):
                found += unknown_keys(part, within, f"{path}{key}.")
    return found


def test_what_it_makes_fits_together(configure, place):
    calls, result = configure()
    assert not result.failed, result
    playbooks = {path.stem for path in (EXAMPLES / "awx").glob("*.yml")}
    templates = calls["job_template"]
    assert {template["playbook"] for template in templates.values()} == {f"{name}.yml" for name in playbooks}
    for template in templates.values():
        assert [template[key] for key in ("project", "inventory", "execution_environment")] == ["Handover"] * 3
    for asked in [*templates.values(), *calls["workflow_job_template"].values()]:
        for question in asked["survey_spec"]["spec"]:
            spec = SPECIFIED[question["variable"]]
            expected = ["true", "false"] if spec["type"] == "bool" else spec.get("choices", [])
            assert question["choices"] == expected and not question["required"]
            assert question["question_description"] and "(" not in question["question_description"].partition(" ")[0]
    for host in calls["host"].values():
        assert set(host["variables"]) <= KNOWN

    injected = {}
    for name, kind in calls["credential_type"].items():
        injected.update(kind["injectors"]["extra_vars"])
        fields = {field["id"] for field in kind["inputs"]["fields"]}
        [credential] = [one for one in calls["credential"].values() if one["credential_type"] == name]
        assert set(credential["inputs"]) <= fields
    [inventory] = calls["inventory"].values()
    used = [*inventory["variables"]["handover_source"].values(), *inventory["variables"]["handover_target"].values()]
    assert {f"{{{{ {name} }}}}" for name in injected} == {*used, "{{ handover_replication_password }}"}

    [workflow] = calls["workflow_job_template"].values()
    nodes = {node["identifier"]: node for node in workflow["workflow_nodes"]}
    assert [key for node in nodes.values() for key in unknown_keys(node, suboptions(place))] == []
    made = {kind: set(calls[kind]) for kind in ("credential", "host")}
    for node in nodes.values():
        if node["unified_job_template"]["type"] == "job_template":
            assert node["unified_job_template"]["name"] in templates and node["limit"] in made["host"]
            assert {one["name"] for one in node["related"]["credentials"]} == made["credential"]
    way, step = [], "preflight"
    while step:
        way.append(step)
        step = next((one["identifier"] for one in nodes[step]["related"]["success_nodes"]), None)
    assert way == [
        "preflight", "rehearse", "prepare_source", "replicate", "verify", "approve cutover", "cutover", "verify again",
        "approve finish", "finish",
    ]  # fmt: skip
    assert nodes["approve finish"]["related"]["failure_nodes"] == [{"identifier": "rollback"}]
    assert nodes["approve cutover"]["related"]["failure_nodes"] == []
    [schedule] = calls["schedule"].values()
    assert schedule["unified_job_template"] in templates and set(schedule["credentials"]) == made["credential"]


def test_a_misspelled_argument_is_found(configure, tmp_path):
    playbook = tmp_path / "configure_awx.yml"
    playbook.write_text(PLAYBOOK.read_text().replace("ask_limit_on_launch", "ask_limit_at_launch", 1))
    _calls, result = configure(playbook)
    assert result.failed and "ask_limit_at_launch" in result.stdout
