# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_source_prepare and pg_configuration_reload against servers: what is changed, what is left, what is put back."""

from __future__ import annotations

import contextlib
import time

import pytest
from faults import BLOCKED, await_that, brake, watching
from sources import ORDER, PASSWORD, RECORD, ROLE, names, prepare, release, setting, state
from support import Cluster, create_database, run_module, start_module

# --- ready, and back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("major", [13, 16, 18, 19])
def test_a_server_is_made_ready_and_put_back(small, major):
    cluster = small(major)
    level = "replica" if major >= 19 else "logical"
    create_database(cluster, "Ünïcode\"' x")
    cluster.sql("postgres", "REVOKE CONNECT ON DATABASE shop FROM public")
    before = state(cluster)

    planned = prepare(cluster, check=True)
    assert planned.changed and state(cluster) == before
    done = prepare(cluster)
    assert done.statements == planned.statements and done.restart_required == planned.restart_required
    wanted = {"max_replication_slots", "max_wal_senders", "max_logical_replication_workers"}
    wanted |= {"wal_level"} if level == "logical" else set()
    assert names(done.restart_required) == names(done.settings) == wanted | {"max_worker_processes"}
    assert {one["former"] for one in done.settings if one["name"] == "max_wal_senders"} == {"1"}
    assert "-wal_level = replica" not in done.diff["after"]
    assert ("wal_level = logical" in done.diff["after"]) == ("wal_level" in wanted)
    assert [line.split()[1] for line in done.hba_lines] == ["shop", '"Ünïcode""\'']
    again = prepare(cluster)
    assert not again.changed and not again.settings and names(again.restart_required) == names(done.restart_required)

    cluster.restart()
    ready = prepare(cluster)
    assert not ready.changed and ready.restart_required == [] and ready.instructions == []
    assert (setting(cluster, "wal_level"), setting(cluster, "max_wal_senders")) == (level, "4")
    assert cluster.sql("shop", "SELECT current_user", user=ROLE, password=PASSWORD) == [(ROLE,)]

    assert release(cluster, check=True).changed
    back = release(cluster)
    assert back.left == [] and names(back.restart_required) == names(done.restart_required)
    assert state(cluster) == before
    assert not release(cluster).changed
    cluster.restart()
    assert (setting(cluster, "wal_level"), setting(cluster, "max_wal_senders")) == ("replica", "1")


def test_the_least_level_will_do(small):
    """With a logical slot of somebody else's a server of 19 starts at replica, but not at minimal."""
    cluster = small(19, settings={"wal_level": "minimal", "max_wal_senders": 0})
    done = prepare(cluster)
    assert {one["name"]: one["value"] for one in done.settings}["wal_level"] == "replica"
    cluster.restart()
    assert not prepare(cluster).changed and setting(cluster, "effective_wal_level") == "replica"
    cluster.sql("shop", "SELECT pg_create_logical_replication_slot('others', 'pgoutput')")
    assert setting(cluster, "effective_wal_level") == "logical"
    assert "wal_level" in names(release(cluster).left)


def test_nothing_is_lowered_and_units_are_understood(small):
    cluster = small(15, settings={"max_replication_slots": 90})
    cluster.sql("postgres", "ALTER SYSTEM SET max_slot_wal_keep_size = '2GB'")
    cluster.sql("postgres", "ALTER SYSTEM SET max_wal_senders = '0x1E'")  # waits for a restart
    done = prepare(cluster, max_slot_wal_keep_size="1GB")
    assert not names(done.settings) & {"max_replication_slots", "max_wal_senders", "max_slot_wal_keep_size"}
    raised = prepare(cluster, max_slot_wal_keep_size="3072")
    assert raised.settings == [
        {
            "name": "max_slot_wal_keep_size",
            "former": "2048",
            "value": "3072",
            "restart": False,
            "method": "alter_system",
            "reason": "a slot that falls behind is lost before the disk is full",
        },
    ]
    assert setting(cluster, "max_slot_wal_keep_size") == "3GB"
    assert release(cluster).left == []
    auto = (cluster.data / "postgresql.auto.conf").read_text()
    assert "max_slot_wal_keep_size = '2GB'" in auto and "max_wal_senders = '0x1E'" in auto
    assert prepare(cluster, max_slot_wal_keep_size="many").failed


def test_a_guard_that_would_lose_a_slot_is_refused(small):
    cluster = small(17, settings={"wal_level": "logical"})
    cluster.sql("postgres", "SELECT pg_create_physical_replication_slot('standby', true)")
    cluster.sql("postgres", "CREATE TABLE much AS SELECT repeat('x', 500) FROM generate_series(1, 10000)")
    before = state(cluster)
    refused = prepare(cluster, max_slot_wal_keep_size="1MB")
    assert refused.failed and '"standby" holds back' in refused.msg and state(cluster) == before
    assert prepare(cluster, max_slot_wal_keep_size="10GB").changed


def test_what_somebody_changed_since_is_left(small):
    cluster = small(15)
    create_database(cluster, "stock")
    cluster.sql("postgres", "ALTER SYSTEM SET max_wal_senders = 3")
    prepare(cluster)
    cluster.sql("postgres", "ALTER SYSTEM SET max_replication_slots = 77")
    left = release(cluster).left
    assert left == [{"name": "max_replication_slots", "value": "77", "reason": "Somebody changed it since."}]
    auto = (cluster.data / "postgresql.auto.conf").read_text()
    assert "max_replication_slots = '77'" in auto and "max_wal_senders = '3'" in auto and "wal_level" not in auto

    prepare(cluster)
    cluster.sql("postgres", "ALTER SYSTEM SET max_wal_senders = 2")  # too little, so the next run raises it again
    assert names(prepare(cluster).settings) == {"max_wal_senders"}
    assert release(cluster).left == []
    assert "max_wal_senders = '2'" in (cluster.data / "postgresql.auto.conf").read_text()


def test_more_databases_in_a_later_run(small):
    cluster = small(15, settings={"wal_level": "logical"})
    create_database(cluster, "stock")
    prepare(cluster, databases=["shop"])
    more = prepare(cluster, databases=["shop", "stock"])
    assert {one["name"]: one["value"] for one in more.settings}["max_replication_slots"] == "4"
    assert len(more.hba_lines) == 2 and len(prepare(cluster, databases=["stock"]).hba_lines) == 1
    # Replication of shop goes on: its line stays, and its slot does not count as somebody else's.
    cluster.restart()
    cluster.sql("shop", "SELECT pg_create_logical_replication_slot('handover_1', 'pgoutput')")
    only = prepare(cluster, databases=["stock"])
    assert not only.changed and [line.split()[1] for line in only.hba_lines] == ["stock", "shop"]
    used = release(cluster)
    assert used.failed and "the slot handover_1" in used.msg


def test_a_slot_of_somebody_else_keeps_the_server_startable(small):
    cluster = small(13)
    prepare(cluster)
    cluster.restart()
    cluster.sql("shop", "SELECT pg_create_logical_replication_slot('theirs', 'pgoutput')")
    done = release(cluster)
    assert names(done.left) == {"wal_level"} and "would not start" in done.left[0]["reason"]
    cluster.restart()
    assert setting(cluster, "wal_level") == "logical"


def test_migrations_that_share_a_server(small):
    cluster = small(16)
    before = state(cluster)
    prepare(cluster, databases=["shop"], replication_role="handover_one")
    create_database(cluster, "stock")
    prepare(cluster, databases=["stock", "shop"], replication_role="handover_two")
    first = release(cluster, replication_role="handover_one")
    assert 'its role "handover_two" keeps the former value' in first.left[0]["reason"]
    assert "wal_level = 'logical'" in (cluster.data / "postgresql.auto.conf").read_text()
    assert release(cluster, replication_role="handover_two").left == []
    assert state(cluster)[0] == before[0]


# --- killed ----------------------------------------------------------------------------------------------------------


def test_killed_at_every_change_it_is_made_ready_and_put_back_by_the_next_run(small):
    cluster = small(16)
    before, seen = state(cluster), set()
    make_ready = {"source": cluster.endpoint(), **ORDER, "max_slot_wal_keep_size": "10GB"}
    while killed_at_record(cluster, make_ready, 2):
        seen.add(state(cluster))
    assert not run_module("pg_source_prepare", make_ready).changed
    put_back = {"source": cluster.endpoint(), "state": "absent"}
    assert killed_at_record(cluster, put_back, 1), "the record goes last"
    seen.add(state(cluster))
    assert not run_module("pg_source_prepare", put_back).failed
    assert len(seen) > 4 and state(cluster) == before


def killed_at_record(cluster: Cluster, order: dict, number: int) -> bool:
    """Start the module, and kill it when it writes to its record for this time; False if it ends before."""
    with brake(cluster, "pg_shdescription") as held:
        running = start_module("pg_source_prepare", order)
        for time_of in range(1, number + 1):
            await_that(
                lambda: running.process.poll() is not None or held.watch.ask(BLOCKED, held.holder.info.backend_pid),
                "a record to be written, or the end",
            )
            if running.process.poll() is not None:
                assert not running.wait().failed
                return False
            if time_of < number:
                held.step()
        running.kill_family()
    with watching(cluster) as watch:
        watch.await_silence()
    return True


def test_killed_between_the_role_and_its_grants(small):
    cluster = small(15)
    cluster.sql("postgres", "REVOKE CONNECT ON DATABASE shop FROM public")
    before = state(cluster)
    with contextlib.closing(cluster.connect(autocommit=False)) as session, session.cursor() as cursor:
        cursor.execute("GRANT CONNECT ON DATABASE shop TO pg_monitor")  # the module's GRANT has to wait for this one
        running = start_module("pg_source_prepare", {**ORDER, "source": cluster.endpoint()})
        while not cluster.sql("postgres", RECORD):
            time.sleep(0.01)
        time.sleep(0.2)
        running.kill_family()
        session.rollback()
    with watching(cluster) as watch:
        watch.await_silence()
    assert cluster.sql("postgres", RECORD) and (cluster.data / "postgresql.auto.conf").read_bytes() == before[0]
    assert prepare(cluster).changed and not prepare(cluster).changed
    release(cluster)
    assert state(cluster) == before


# --- what somebody else has to do ------------------------------------------------------------------------------------


def test_a_standby_is_refused_and_standbys_go_first(small, run_directory):
    cluster = small(15, settings={"max_wal_senders": 2})  # which pg_basebackup needs
    create_database(cluster, "stock")
    standby = cluster.standby(run_directory / "standby")
    try:
        assert prepare(standby).failed and "primary" in prepare(standby).msg
        assert release(standby).failed
        first = prepare(cluster)
        assert "walreceiver" in first.instructions[0] and "standbys_ready" in first.instructions[0]
        by_method = {one["name"]: one["method"] for one in first.settings}
        assert by_method["max_wal_senders"] == "instructions" and by_method["wal_level"] == "alter_system"
        assert not names(first.restart_required) & {"max_wal_senders", "max_worker_processes"}
        ready = prepare(cluster, standbys_ready=True)
        assert ready.instructions == [] and "max_wal_senders" in names(ready.restart_required)
    finally:
        standby.destroy()


@pytest.mark.parametrize(
    ("sign", "name", "advice"),
    [
        ("session", "Patroni", "patronictl edit-config"),
        ("CREATE ROLE rdsadmin", "Amazon RDS or Aurora", "rds.logical_replication"),
        ("CREATE ROLE _dodb", "DigitalOcean", "console"),
    ],
)
def test_who_manages_the_server_changes_its_settings(small, sign, name, advice):
    cluster = small(14)
    if sign != "session":
        cluster.sql("postgres", sign)
    with contextlib.closing(cluster.connect(application_name="Patroni heartbeat" if sign == "session" else "psql")):
        done = prepare(cluster)
        assert done.manager == name and done.settings_method == "instructions" and advice in done.instructions[0]
        assert "wal_level = logical" in done.instructions[0] and done.restart_required == []
        assert "wal_level" not in (cluster.data / "postgresql.auto.conf").read_text()
        assert cluster.sql("postgres", RECORD), "what SQL can do is done"
        assert "wal_level" in names(prepare(cluster, settings_method="alter_system").restart_required)


@pytest.mark.parametrize("major", [15, 16])
def test_an_administrator_who_is_no_superuser(small, major):
    cluster = small(major)
    admin = cluster.managed_admin(attributes=["CREATEDB", "CREATEROLE", "REPLICATION"])
    cluster.sql("postgres", "ALTER DATABASE shop OWNER TO doadmin; REVOKE CONNECT ON DATABASE shop FROM public")
    before = state(cluster)
    done = prepare(cluster, source=admin)
    assert not done.failed and done.hba_refused is None and any("wal_level" in text for text in done.instructions)
    assert done.server["data_directory"] is None
    if major == 15:  # only superusers may make roles that replicate
        assert not done.changed and "create_replication_role: false" in done.instructions[0]
        cluster.sql("postgres", f"CREATE ROLE {ROLE} LOGIN REPLICATION PASSWORD '{PASSWORD}'")
        given = prepare(cluster, source=admin, create_replication_role=False)
        assert any(text.startswith("Run: GRANT CONNECT") for text in given.instructions)
    else:
        assert done.changed and cluster.sql("shop", "SELECT 1", user=ROLE, password=PASSWORD)
        assert not prepare(cluster, source=admin).changed
        run_module("pg_source_prepare", {"source": admin, "state": "absent"})
        assert state(cluster) == before


def test_a_server_that_refuses_alter_system_gets_a_file(small):
    cluster = small(17, settings={"allow_alter_system": "off"})
    done = prepare(cluster)
    assert done.settings_method == "conf_file" and done.conf_file["wal_level"] == "logical"
    assert done.statements[-1].startswith("ALTER ROLE") and "wal_level" in names(done.restart_required)
    drop_in = cluster.data / "lab.conf"
    with drop_in.open("a") as file:
        file.writelines(f"{name} = '{text}'\n" for name, text in done.conf_file.items())
    assert not run_module("pg_configuration_reload", {"source": cluster.endpoint(), "settings": done.conf_file}).failed
    again = prepare(cluster)
    assert not again.changed and again.conf_file == done.conf_file and again.settings == []
    with drop_in.open("a") as file:
        file.write("max_wal_senders = 1\n")
    other = run_module("pg_configuration_reload", {"source": cluster.endpoint(), "settings": done.conf_file})
    lines = len(drop_in.read_text().splitlines())
    assert other.failed and f"lab.conf:{lines} decides max_wal_senders" in other.msg
    assert prepare(cluster, settings_method="alter_system").failed
    back = release(cluster)
    assert back.conf_file == {} and back.left == []


def test_a_file_cannot_change_what_alter_system_has_set(small):
    cluster = small(16)
    cluster.sql("postgres", "ALTER SYSTEM SET max_wal_senders = 1")
    done = prepare(cluster, settings_method="conf_file")
    assert "max_wal_senders" not in done.conf_file and "ALTER SYSTEM RESET max_wal_senders" in done.instructions[0]


def test_others_pending_changes_are_told_apart(small):
    cluster = small(15)
    cluster.sql("postgres", "ALTER SYSTEM SET max_connections = 61")
    with contextlib.closing(cluster.connect("shop", application_name="the application")):
        done = prepare(cluster)
        assert done.also_pending == [{"name": "max_connections", "running": "60", "configured": "61"}]
        assert "max_connections" not in names(done.restart_required)
        assert {
            "database": "shop",
            "role": "postgres",
            "application_name": "the application",
            "address": "127.0.0.1",
            "sessions": 1,
        } in done.sessions
