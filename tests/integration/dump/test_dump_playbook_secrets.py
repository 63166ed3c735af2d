# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook of the dump migration shows no password, wherever it stands in the inventory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from dumps import CLIENTS
from support import assert_no_secret, create_database, run_playbook

DUMP = "handover.postgresql.dump"


def vaulted(tmp_path, variables):
    """Arguments with which ansible-playbook reads these variables from a vault."""
    (tmp_path / "vault").mkdir()
    key, content = tmp_path / "vault" / "key", tmp_path / "vault" / "variables.yml"
    key.write_text("the key of the vault")
    content.write_text(json.dumps(variables))
    program = Path(sys.executable).parent / "ansible-vault"
    subprocess.run(
        [program, "encrypt", "--vault-password-file", key, content],
        check=True,
        capture_output=True,
        env={**os.environ, "HOME": str(tmp_path), "ANSIBLE_HOME": str(tmp_path / "vault")},
    )
    assert content.read_text().startswith("$ANSIBLE_VAULT")
    return ["-e", f"@{content}", "--vault-password-file", str(key)]


def test_no_secret_shows(servers, tmp_path):
    """Passwords in variables of a vault, in an address, and of roles; as much talk as there is."""
    source, target = servers(16), servers(18, "target")
    create_database(source, "one")
    source.sql("one", "CREATE TABLE t AS SELECT generate_series(1, 20) AS i")
    source.sql("postgres", "CREATE ROLE app LOGIN PASSWORD 'of the application'")
    hashes = [row[0] for row in source.sql("postgres", "SELECT rolpassword FROM pg_authid WHERE rolpassword <> ''")]
    secrets = {
        "vault_source_password": source.password,
        "vault_app_password": "the target's application",
        "vault_target_uri": f"postgresql://postgres:{target.password}@127.0.0.1:{target.port}/postgres",
        "password_of_the_user": "something of the user's own",
    }
    pair = {
        "ansible_connection": "local",
        "handover_source": {**source.endpoint(), "password": "{{ vault_source_password }}"},
        "handover_target": {"uri": "{{ vault_target_uri }}"},
        "handover_role_passwords": {"app": "{{ vault_app_password }}"},
        "handover_source_is_quiet": True,
        "handover_client_directory": CLIENTS,
        "handover_dump_directory": f"{tmp_path}/dumps",
        "handover_report_directory": f"{tmp_path}/reports",
    }
    pairs = {"all": {"hosts": {"pair": pair}}}
    arguments = ["-vvvv", *vaulted(tmp_path, secrets)]
    create_database(target, "one")
    options = {"diff": True, "args": arguments}
    runs = [run_playbook(DUMP, pairs, check=check, **options) for check in (True, False)]
    assert all(run.failed and "one" in run.failures[-1]["msg"] for run in runs), runs
    target.sql("postgres", "DROP DATABASE one")
    runs.append(run_playbook(DUMP, pairs, **options))
    assert not runs[-1].failed, runs[-1]
    texts = [text for run in runs for text in (run.stdout, run.stderr, json.dumps(run.tasks))]
    reports = [path.read_text() for path in (tmp_path / "reports").iterdir()]
    assert len(reports) == 5, "of the dump and of its rehearsal, for programs and for people, and the page"
    assert_no_secret([*secrets.values(), target.password, *hashes], *texts, *reports)
    target.connect(user="app", password=secrets["vault_app_password"]).close()
