# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each role works alone, as its README shows it: with the variables of a play, and an inventory that has none."""

from __future__ import annotations

import re

import pytest
from dumps import CLIENTS, JOURNAL, look
from support import ROOT, assert_same, create_database, run_playbook

FILL = (
    "CREATE TABLE t (i int PRIMARY KEY, t text); INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 20) AS i"
)


@pytest.fixture
def example(servers, tmp_path):
    """``example("dump")`` runs what the role's README shows, on two servers that the rest of a test looks at."""
    source, target = servers(16), servers(18, "target")
    create_database(source, "shop")
    source.sql("shop", FILL)

    def run(role, check=False, **variables):
        readme = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")
        [shown] = re.findall(r"^```yaml\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
        here = shown.replace("host: db.example.com", f"host: 127.0.0.1\n      port: {source.port}")
        playbook = tmp_path / f"{role}.yml"
        playbook.write_text(here.replace("203.0.113.7", "127.0.0.1"))
        end = target.endpoint()
        given = {
            "vault_source_password": source.password,
            "vault_target_uri": f"postgresql://postgres:{end['password']}@127.0.0.1:{target.port}/postgres",
            "handover_client_directory": CLIENTS,
            "handover_replication_tls": False,  # not every build has TLS
            **variables,
        }
        inventory = {"all": {"hosts": {"localhost": {"ansible_connection": "local"}}}}
        return run_playbook(
            playbook, inventory, check=check, extra_vars=given, env={"HOME": str(tmp_path)}, progress=True
        )

    run.source, run.target, run.home = source, target, tmp_path
    return run


def succeeded(result):
    """The result of a run without any failure."""
    assert not result.failed, result
    return result


def test_a_dump(example):
    assert succeeded(example("preflight")).stats["localhost"]["changed"] == 0
    assert "would be brought over" in succeeded(example("dump", check=True)).stdout
    reports = str(example.home / "reports")
    assert "- shop: brought over." in succeeded(example("dump", handover_report_directory=reports)).stdout
    assert_same(look(example.source, "shop"), look(example.target, "shop"), ignore=JOURNAL)
    assert not succeeded(example("dump", handover_report_directory=reports)).changed
    written = {"localhost-rehearsal.json", "localhost-rehearsal.md", "localhost.html", "localhost.json", "localhost.md"}
    assert {path.name for path in (example.home / "reports").iterdir()} == written


def test_a_rehearsal(example):
    """What it meets is shown and ends it, and a dump and a replication before they copy a row."""
    assert "ok: The target took everything" in succeeded(example("rehearse")).stdout
    example.source.sql("shop", "CREATE VIEW writes AS SELECT buffers_backend FROM pg_stat_bgwriter")
    for role in ("rehearse", "dump"):
        result = example(role, handover_rehearsal_rows=5)
        assert result.failed
        assert "blocker: VIEW public.writes cannot be made" in result.stdout
    assert "NOT BROUGHT OVER. The rehearsal of shop met what stands in the way" in result.stdout
    assert not example.target.sql("postgres", "SELECT 1 FROM pg_database WHERE datname ~ '^(shop|handover)'")
    assert "brought over." in succeeded(example("dump", handover_leave_out=["VIEW public.writes"])).stdout


def test_a_dump_directly_of_databases_one_after_the_other(example):
    create_database(example.source, "other")
    given = {"handover_databases": ["shop", "other"], "handover_transport": "direct"}
    result = succeeded(example("dump", **given))
    assert all(f"- {name}: brought over." in result.stdout for name in given["handover_databases"])
    assert_same(look(example.source, "shop"), look(example.target, "shop"), ignore=JOURNAL)


def test_a_continuous_migration(example):
    succeeded(example("source"))
    assert "- shop: in step" in succeeded(example("replicate")).stdout
    assert not succeeded(example("replicate")).changed
    assert "EQUAL" in succeeded(example("verify")).stdout
    assert not succeeded(example("cutover", check=True)).changed
    assert "- shop: handed over" in succeeded(example("cutover")).stdout
    example.target.sql("shop", "INSERT INTO t VALUES (21, 'later')")
    assert "- shop: handed over" in succeeded(example("cutover", handover_direction="back")).stdout
    assert example.source.sql("shop", "SELECT count(*) FROM t") == [(21,)]


def test_variables_that_nobody_knows_are_refused_before_anything_is_done(example):
    result = example("dump", handover_databses=["shop"], handover_my_own=1)
    assert result.failed
    [failure] = result.failures
    for words in ("There is no variable handover_databses", "handover_databases", "handover_my_own"):
        assert words in failure["msg"], failure["msg"]
    assert {task["action"] for task in result.tasks} == {"handover.postgresql.check_variables"}
    assert not example.target.sql("postgres", "SELECT 1 FROM pg_database WHERE datname = 'shop'")


def test_a_variable_that_does_not_fit_is_refused_in_a_sentence(example):
    result = example("replicate", handover_source="postgresql://somebody@db/shop?sslmode=require", handover_jobs="many")
    assert result.failed and len(result.stdout) < 2000
    [failure] = result.failures
    for words in ("handover_source is a string", "handover_source: {uri: ", "handover_jobs is a str"):
        assert words in failure["msg"], failure["msg"]
