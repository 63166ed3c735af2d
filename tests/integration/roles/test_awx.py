# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every playbook as AWX runs it: by ansible-runner, from the project in docs/examples/awx, with the answers of a survey
in which nothing is filled in, and with what the playbook before it has handed on.
"""

from __future__ import annotations

from dumps import CLIENTS, JOURNAL, look
from support import ROOT, assert_same, create_database, run_with_runner

from ansible_collections.handover.postgresql.plugins.plugin_utils.variables import OF_ROLES

AWX = ROOT / "docs" / "examples" / "awx"
BLANK = {f"handover_{name}": "" for name in OF_ROLES if name not in ("pair", "source", "target")}
BLANK |= {"handover_hosts": "", "handover_serial": ""}


def test_every_playbook_with_blank_answers(servers, tmp_path):
    source, target = servers(16), servers(18, "target")
    create_database(source, "shop")
    source.sql("shop", "CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 50)")
    here = {"handover_source": source.endpoint(), "handover_target": target.endpoint(), "ansible_connection": "local"}
    inventory = {"all": {"hosts": {"pair": here}}}
    needed = {"handover_client_directory": CLIENTS, "handover_target_addresses": "127.0.0.1"}
    needed |= {"handover_replication_tls": "false", "handover_progress": "0"}
    done, handed_on = [], {}

    def run(name, **answers):
        place = tmp_path / f"{len(done)}"
        place.mkdir()
        done.append(name)
        given = {**BLANK, **needed, **handed_on, **answers}
        status, events = run_with_runner(AWX / f"{name}.yml", inventory, given, place)
        shown = "\n".join(event["stdout"] for event in events)
        assert status == "successful", shown
        assert "[WARNING]" not in shown and "[DEPRECATION" not in shown, shown
        [end] = [event["event_data"] for event in events if event["event"] == "playbook_on_stats"]
        handed_on.update(end.get("artifact_data") or {})
        return handed_on.get("handover_results", {}).get("pair", {}).get(name, {}).get("shop"), end["changed"]

    assert run("preflight")[0]["recommended_method"] == "continuous"
    assert run("rehearse")[0]["failed"] is False
    assert run("prepare_source")[1]
    assert run("replicate")[0]["phase"] == "in_step"
    assert run("status")[0]["lag"]["seconds"] < 60
    run("watch")
    assert handed_on["handover_results"]["pair"]["status"]["shop"]["level"] == "ok"
    assert run("verify")[0]["verdict"] == "equal"
    cutover = run("cutover")[0]
    assert cutover["place"] == {"host": "127.0.0.1", "port": target.port, "dbname": "shop"}
    assert cutover["window_ms"] > 0
    target.sql("shop", "INSERT INTO t VALUES (51)")
    assert run("rollback")[0]["place"]["port"] == source.port
    assert source.sql("shop", "SELECT count(*) FROM t") == [(51,)]
    run("stop")
    assert run("finish", handover_without_cutover="true")[1]
    assert set(handed_on["handover_results"]["pair"]) >= {"preflight", "verify", "cutover"}, "of all that ran before"
    target.sql("postgres", "DROP DATABASE shop")
    quiet = {"handover_source_is_quiet": "true", "handover_rehearse": "false"}
    run("migrate", handover_method="dump", **quiet)
    assert run("dump", **quiet) == ({"complete": True}, {})
    assert_same(look(source, "shop"), look(target, "shop"), ignore=JOURNAL)
    run("abandon", handover_abandon_databases="shop")
    assert target.sql("postgres", "SELECT FROM pg_database WHERE datname = 'shop'") == []
    assert set(done) == {path.stem for path in AWX.glob("*.yml")}
