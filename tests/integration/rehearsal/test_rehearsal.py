# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_rehearse: what it says, what it leaves, and what it leaves alone."""

from __future__ import annotations

import contextlib
import re
import socket

import psycopg2
import pytest
from copies import bring_roles, copy
from dumps import assert_nothing_of_ours, databases, done, finish, look
from faults import await_that
from migrations import finished, stopped
from preflights import look as preflight
from rehearsals import about, assert_well, left, made, of_level, rehearse, start_rehearsal
from support import Cluster, assert_same

from ansible_collections.handover.postgresql.plugins.module_utils.methods.rehearsal.rolled_back import NEVER

SHOP = """
    CREATE TABLE orders (id int PRIMARY KEY, note text, double int GENERATED ALWAYS AS (id * 2) STORED);
    INSERT INTO orders (id, note) SELECT i, repeat('n', 200) FROM generate_series(1, 3000) AS i;
    CREATE TABLE line (id int PRIMARY KEY, orders int REFERENCES orders); INSERT INTO line VALUES (1, 3000), (2, 1500);
    CREATE VIEW seen AS SELECT id FROM orders; CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM orders"""
REFUSED = "CREATE VIEW writes AS SELECT buffers_backend FROM pg_stat_bgwriter"
SLOWLY = """
    CREATE FUNCTION slow(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 1; END';
    CREATE TABLE slowly (id int CHECK (slow(id) = 1)); INSERT INTO slowly SELECT generate_series(1, 10);
    CREATE INDEX by_slow ON orders (slow(id)) WHERE id <= 20;
    CREATE OR REPLACE FUNCTION slow(int) RETURNS int LANGUAGE plpgsql IMMUTABLE
        AS 'BEGIN PERFORM pg_sleep(0.05); RETURN 1; END';
    CREATE MATERIALIZED VIEW waited AS SELECT pg_sleep(1)::text"""
IN_PLACE = "SELECT 1 FROM pg_stat_activity WHERE datname LIKE 'handover_rehearsal_%' AND query ~ '{}'"
POINTS = (
    "SELECT 1 FROM pg_database WHERE datname LIKE 'handover_rehearsal_%'",
    *map(IN_PLACE.format, ("^COPY .*slowly", "CREATE INDEX", "REFRESH", r"^SELECT count\(ROW")),
)
TURN = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"
JOURNAL = "SELECT count(*)::int FROM pg_namespace WHERE nspname = 'handover'"


@pytest.fixture
def ends(servers) -> tuple[Cluster, Cluster]:
    source, target = servers(15), servers(17, "target")
    made(source, "shop", SHOP)
    return source, target


def test_all_is_well_and_nothing_is_changed(ends):
    source, target = ends
    before = look(source, "shop")
    found = done(rehearse(source, target, jobs=2))
    assert_well(found)
    assert not found.changed and found.summary["ok"] == 1
    assert found.databases[0]["recommended_method"] == "continuous"
    assert {"rows, indexes and keys", "comparison of definitions", "subscription"} <= {
        one["stage"] for one in found.databases[0]["stages"]
    }
    assert_same(before, look(source, "shop"))
    assert left(target) == left(source) == [] and databases(target) == set()


def test_check_mode_says_what_would_be_done(ends):
    source, target = ends
    found = done(rehearse(source, target, check=True))
    [unit] = found.databases
    assert unit["place"].startswith("handover_rehearsal_") and unit["tables"] == 2
    assert "rows, indexes and keys" in unit["planned_stages"]
    assert target.sql("postgres", JOURNAL) == [(0,)] and left(target) == []


def test_the_preflight_tells_until_it_is_finished(ends):
    source, target = ends

    def ask(**options):
        return preflight(source.endpoint(), target.endpoint(), ["shop"], **options)

    assert ask().levels("rehearsal") == {"info"}, "it was not rehearsed"
    source.sql("shop", REFUSED)
    assert rehearse(source, target).failed
    told = ask().about("rehearsal", "VIEW public.writes")
    assert told["level"] == "warning" and re.match(r"Rehearsed \d+ s ago: VIEW", told["seen"])
    waived = ask(waive=[{"id": "rehearsal", "objects": ["VIEW public.writes"], "reason": "nobody reads it"}])
    assert waived.about("rehearsal", "VIEW public.writes")["waived"]
    source.sql("shop", "DROP VIEW writes")
    done(rehearse(source, target))
    assert ask().levels("rehearsal") == {"ok"}
    assert done(finish(target, "shop")).changed and not done(finish(target, "shop")).changed
    assert target.sql("postgres", JOURNAL) == [(0,)]
    assert ask().levels("rehearsal") == {"info"}


def test_what_is_waived_is_in_the_way_of_nothing(ends):
    source, target = ends
    source.sql("shop", REFUSED)
    given = {"id": "rehearsal", "objects": ["VIEW public.writes"], "reason": "nobody reads it"}
    other = {"id": "special_extensions", "reason": "for the preflight"}
    found = done(rehearse(source, target, waive=[given, other]))
    assert found.summary["waived"] == 1 and found.summary["warning"] == 0
    assert about(found, "VIEW public.writes")["waived"] == "nobody reads it"
    refused = rehearse(source, target, waive=[{**given, "objects": ["VIEW public.seen"]}])
    assert refused.failed and refused.failed_on == ["shop"]


def test_what_is_there_is_not_rehearsed_again(ends):
    source, target = ends
    done(copy(source, target))
    found = done(rehearse(source, target))
    assert "is there" in found["findings"][0]["seen"] and "stages" not in found.databases[0]
    assert_well(done(rehearse(source, target, force=True)))
    assert databases(target) == {"shop"}


def test_roles_that_are_not_there_yet_are_named(ends):
    source, target = ends
    source.sql("postgres", "CREATE ROLE keeper")
    source.sql("shop", "ALTER TABLE orders OWNER TO keeper; GRANT SELECT ON line TO keeper")
    found = done(rehearse(source, target))
    assert about(found, "lacks 1 role")["level"] == "info"
    assert not of_level(found, "blocker", "warning")


def test_a_role_that_may_make_no_database(ends):
    source, target = ends
    target.sql("postgres", "CREATE ROLE poor LOGIN PASSWORD 'poor'")
    found = done(rehearse(source, target.endpoint(user="poor", password="poor")))
    assert "may make no database" in of_level(found, "unknown")[0]["seen"]
    assert found.summary["ok"] == 0


def test_a_role_that_may_make_databases_and_no_roles(ends):
    source, target = ends
    target.sql("postgres", "CREATE ROLE maker LOGIN CREATEDB PASSWORD 'maker'")
    found = done(rehearse(source, target.endpoint(user="maker", password="maker"), method="dump"))
    assert_well(found)
    assert left(target) == []


def test_the_subscription_is_tried_by_the_real_owner(ends):
    """A password that is wrong stands in the way of what is continuous alone."""
    source, target = ends
    wrong = {"user": "postgres", "password": "no such password", "host": "127.0.0.1", "port": 1}
    found = done(rehearse(source, target, replication=wrong))
    assert of_level(found, "blocker")[0]["methods"] == ["continuous"]
    assert found.databases[0]["feasible_methods"] == ["dump"]
    assert rehearse(source, target, replication=wrong, method="continuous").failed
    assert_well(done(rehearse(source, target, replication=wrong, method="dump")))


@pytest.mark.parametrize("ending", ["again", "stopped", "finished"])
def test_killed_at_any_point(ends, ending):
    """Whatever ends it, the next run of anything of ours leaves nothing."""
    source, target = ends
    source.sql("shop", SLOWLY)
    for point in POINTS if ending == "again" else POINTS[-2:]:
        running = start_rehearsal(source, target)
        await_that(lambda query=point: target.sql("postgres", query), point, pause=0.005)
        running.kill_family()
        await_that(lambda: not target.sql("postgres", TURN), "the end of the session that has the turn")
    source.sql("shop", "DROP INDEX by_slow; DROP MATERIALIZED VIEW waited; DROP TABLE slowly")
    if ending == "again":
        assert_well(done(rehearse(source, target)))
    elif ending == "stopped":
        stopped(source, target, databases=["shop"])
    else:
        finished(source, target, databases=["shop"])
    assert left(target) == []
    done(finish(target, "shop"))
    await_that(lambda: not target.sql("postgres", "SELECT 1 FROM pg_stat_activity WHERE datname ~ '^handover'"), "end")
    assert_nothing_of_ours(target)
    assert target.sql("postgres", JOURNAL) == [(0,)]


def test_killed_while_the_role_of_a_trial_is_dropped(ends):
    """The next run, of whichever database, finds the role, too."""
    source, target = ends
    source.sql("postgres", "CREATE ROLE keeper")
    source.sql("postgres", "ALTER DATABASE shop OWNER TO keeper")
    target.sql("postgres", "CREATE ROLE keeper")
    admin = target.managed_admin(grants=["pg_create_subscription"])
    with contextlib.closing(target.connect()) as holder, holder.cursor() as cursor:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            there = {"host": "127.0.0.1", "port": silent.getsockname()[1], "user": "postgres", "password": "not asked"}
            running = start_rehearsal(source, admin, replication=there)
            silent.settimeout(60)
            tried = silent.accept()[0]
            [role] = [one for one in left(target) if re.fullmatch("role handover_[0-9a-f]{10}_.*", one)]
            cursor.execute(f"BEGIN; COMMENT ON ROLE {role.partition(' ')[2]} IS 'held'")
            tried.close()
        waiting = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ '^DROP ROLE'"
        await_that(lambda: target.sql("postgres", f"SELECT 1 {waiting}"), "the end of the trial")
        running.kill_family()
        target.sql("postgres", f"SELECT pg_terminate_backend(pid, 10000) {waiting}")
    made(source, "other", "CREATE TABLE own (id int PRIMARY KEY)")
    done(rehearse(source, admin, databases=["other"]))
    assert left(target) == []


def test_an_administrator_of_a_service_rehearses(ends, tmp_path):
    """No superuser: roles are borrowed, and the subscription is the owner's."""
    source, target = ends
    source.sql("postgres", "CREATE ROLE keeper; CREATE ROLE reader")
    source.sql(
        "shop", "ALTER TABLE orders OWNER TO keeper; GRANT SELECT ON line TO reader; ALTER VIEW seen OWNER TO keeper"
    )
    source.sql("postgres", "ALTER DATABASE shop OWNER TO keeper")
    admin = target.managed_admin(grants=["pg_create_subscription"])
    bring_roles(source, admin, tmp_path / "roles")
    found = done(rehearse(source, admin))
    assert not of_level(found, "blocker", "warning", "unknown"), found["findings"]
    assert left(target) == []
    borrowed = "SELECT roleid::regrole::text FROM pg_auth_members WHERE roleid >= 16384 AND NOT admin_option"
    assert target.sql("postgres", borrowed) == []


LOOKUP = """
    CREATE FUNCTION total(int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE
        AS 'BEGIN RETURN (SELECT count(*) FROM public.orders WHERE id < $1); END';
    CREATE INDEX by_total ON line (total(orders));
    CREATE TABLE checked (id int CHECK (total(id) < 10)); INSERT INTO checked VALUES (1), (2)"""


@pytest.fixture
def poor(ends):
    """The target as a role sees it that may make no database, and owns an empty one."""
    _source, target = ends
    target.sql("postgres", "CREATE ROLE poor LOGIN PASSWORD 'poor'")
    target.sql("postgres", "CREATE DATABASE shop OWNER poor TEMPLATE template0")
    return target.endpoint(user="poor", password="poor")


def is_empty(target: Cluster) -> bool:
    """Nobody has made anything in the database since initdb."""
    made_there = """
        SELECT oid FROM pg_class WHERE oid >= 16384 UNION ALL SELECT oid FROM pg_namespace WHERE oid >= 16384
        UNION ALL SELECT oid FROM pg_proc WHERE oid >= 16384"""
    return target.sql("shop", made_there) == []


def test_where_no_database_may_be_made_all_is_rolled_back(ends, poor):
    source, target = ends
    source.sql("shop", LOOKUP)
    source.sql("shop", f"{REFUSED}; CREATE VIEW on_it AS SELECT * FROM writes")
    source.sql("shop", "ALTER DATABASE shop SET work_mem = '5MB'; GRANT CREATE ON DATABASE shop TO PUBLIC")
    found = rehearse(source, poor, create=False, rehearsal_rows=40)
    assert found.failed and is_empty(target)
    [blocker] = of_level(found, "blocker")
    assert blocker["objects"] == ["VIEW public.writes", "VIEW public.on_it"]
    [warning] = of_level(found, "warning")
    assert warning["objects"] == ["public.by_total"] and "public.orders" in warning["seen"]
    assert [one["methods"] for one in of_level(found, "unknown")] == [["continuous"]]
    source.sql("shop", "DROP VIEW on_it, writes; DROP INDEX by_total")
    found = done(rehearse(source, poor, create=False, method="dump"))
    assert_well(found)
    assert about(found, "which was rolled back")["level"] == "info" and is_empty(target)
    done(copy(source, poor, create=False))
    assert target.sql("shop", "SELECT count(*)::int FROM orders") == [(3000,)]


def test_rows_that_are_refused_are_named_also_when_it_is_rolled_back(ends, poor):
    """One table does not keep the others from being looked at."""
    source, target = ends
    source.sql(
        "shop",
        f"""CREATE FUNCTION half(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 / 2; END';
        CREATE FUNCTION fourth(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN half(half($1)); END';
        CREATE TABLE apart (id int PRIMARY KEY, part int GENERATED ALWAYS AS (fourth(id)) STORED);
        INSERT INTO apart (id) VALUES (4); {REFUSED}""",
    )
    found = rehearse(source, poor, create=False)
    assert {tuple(one["objects"]) for one in of_level(found, "blocker")} == {
        ("TABLE public.apart",),
        ("VIEW public.writes",),
    }
    assert "ALTER FUNCTION ... SET search_path" in about(found, "public.apart")["remedy"] and is_empty(target)


def test_more_objects_than_a_transaction_has_locks_for(ends, new_cluster):
    source, _target = ends
    source.sql(
        "shop",
        """DO $$ BEGIN FOR n IN 1..300 LOOP
            EXECUTE format('CREATE TABLE t%s (id serial PRIMARY KEY, v text UNIQUE)', n); END LOOP; END $$""",
    )
    small = new_cluster(17, settings={"max_locks_per_transaction": 10, "max_connections": 20})
    small.sql("postgres", "CREATE ROLE poor LOGIN PASSWORD 'poor'")
    small.sql("postgres", "CREATE DATABASE shop OWNER poor TEMPLATE template0")
    found = done(rehearse(source, small.endpoint(user="poor", password="poor"), create=False, method="dump"))
    assert [one["level"] for one in found["findings"]] == ["unknown"] and is_empty(small)
    assert "max_locks_per_transaction" in found["findings"][0]["remedy"]


def test_nothing_of_it_can_be_committed(ends):
    _source, target = ends
    with contextlib.closing(target.connect()) as session, session.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(NEVER)
        cursor.execute("CREATE TABLE kept ()")
        with pytest.raises(psycopg2.errors.ForeignKeyViolation):
            cursor.execute("COMMIT")
        cursor.execute("SELECT to_regclass('kept')")
        assert cursor.fetchone() == (None,)


def test_killed_while_it_is_not_rolled_back_yet(ends, poor):
    source, target = ends
    source.sql("shop", SLOWLY)
    running = start_rehearsal(source, poor, create=False)
    there = "FROM pg_stat_activity WHERE datname = 'shop' AND application_name = 'handover'"
    await_that(lambda: target.sql("postgres", f"SELECT 1 {there} AND query ~ 'REFRESH'"), "the refresh", pause=0.005)
    running.kill_family()
    await_that(lambda: not target.sql("postgres", f"SELECT 1 {there}"), "the end of its session")
    assert is_empty(target) and left(target) == []
