# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What replication does not bring, changed while the database is handed over by who goes past the poolers."""

from __future__ import annotations

import re
import subprocess

import psycopg2
import pytest
from cutovers import await_step, cut_over, handed_over, hold_at, homes, let_go, make_bank, start_cutover
from faults import await_that
from migrations import finished, in_step, traces
from support import Cluster, run_module

TAKE = "SELECT nextval('bank.ledger_id_seq') FROM generate_series(1, 3)"


@pytest.mark.parametrize("majors", [(13, 16), (15, 18)])
def test_no_value_of_a_sequence_is_given_twice(servers, tmp_path, majors):
    """Not those either that were fetched after the window had read it, nor after the commit, also where it is a
    program left behind, or the next run, that lets the new home in."""
    source, target = (servers(major) for major in majors)
    make_bank(source, target)
    for number, (step, end) in enumerate(
        [
            ("commit", "finish"),
            ("overtake", "kill"),
            ("overtake", "kill_family"),
        ]
    ):
        direction, old, new = ("back", target, source) if number % 2 else ("forward", source, target)
        more = {"direction": direction, "sequence_margin": 0}
        place = tmp_path / str(number)
        running = start_cutover(source, target, env=hold_at(place, step), **more)
        await_step(place, running)
        taken = old.sql("shop", TAKE)
        if end == "finish":
            let_go(place)
            handed_over(running.wait())
        else:
            getattr(running, end)()
        if end == "kill":
            await_that(lambda: len(homes(source, target)) == 1, "one home")
        given = new.sql("shop", TAKE) if end == "kill" else None
        handed_over(cut_over(source, target, **more))
        given = given or new.sql("shop", TAKE)
        assert min(given) > max(taken), (step, end, taken, given)


LARGE_OBJECTS = """
    SELECT oid::int, encode(sha256(lo_get(oid)), 'hex'), obj_description(oid, 'pg_largeobject'),
           (SELECT array_agg(a.privilege_type::text) FROM aclexplode(lomacl) AS a
            WHERE a.grantee = 'clerk'::regrole)
    FROM pg_largeobject_metadata ORDER BY oid"""
MAKE = "SELECT lo_from_bytea(%s, convert_to(repeat('begin' || i, 60000), 'UTF8')) FROM generate_series(1, 1) AS i"
CHANGES = """
    SELECT lo_put(201, 250000, 'changed'); SELECT lo_unlink(202); COMMENT ON LARGE OBJECT 203 IS 'a comment';
    GRANT SELECT ON LARGE OBJECT 204 TO clerk; SELECT lo_from_bytea(205, 'new'), lo_create(206)"""


@pytest.fixture(params=["superuser", "managed"])
def ends(request, servers):
    """(source, target, the target as it is given to modules)."""
    source, target = servers(14), servers(18)
    admin = None
    if request.param == "managed":
        attributes = ["CREATEDB", "CREATEROLE", "REPLICATION"]
        admin = target.managed_admin(attributes=attributes, grants=["pg_create_subscription", "pg_monitor"])
    make_bank(source, target, as_role=admin)
    return source, target, admin or target


def test_large_objects_are_what_they_are_under_the_locks(ends, tmp_path):
    """The first one, one that is changed in any way, and the end of the last one, there and back."""
    source, target, given = ends
    where = {"forward": (source, target, source.sql), "back": (target, source, as_given(target, given))}
    for number, (direction, before, meanwhile, copied) in enumerate(
        [
            ("forward", "SELECT", MAKE % 17, 1),
            ("back", "SELECT", "SELECT lo_unlink(17)", 1),
            ("forward", ";".join(MAKE % oid for oid in range(200, 205)), CHANGES, 6),
            ("back", "SELECT", "SELECT", 0),
            ("forward", "SELECT", "SELECT", 0),
        ]
    ):
        old, new, work = where[direction]
        work("shop", before)
        place = tmp_path / str(number)
        running = start_cutover(source, given, env=hold_at(place, "lock"), direction=direction)
        await_step(place, running)
        work("shop", meanwhile)
        let_go(place)
        found = handed_over(running.wait())
        assert new.sql("shop", LARGE_OBJECTS) == old.sql("shop", LARGE_OBJECTS), (number, found)
        assert found["large_objects_in_window"] == copied, (number, found)
    assert len(target.sql("shop", LARGE_OBJECTS)) == 6


def as_given(target, given):
    """What asks the target as the role does that modules connect as."""
    if given is target:
        return target.sql
    return lambda dbname, query: target.sql(dbname, query, user=given["user"], password=given["password"])


EXTENSION = """
    CREATE EXTENSION hstore; CREATE TABLE conf (i int); CREATE TABLE message (i int); CREATE TABLE hidden (i int);
    ALTER EXTENSION hstore ADD TABLE conf; ALTER EXTENSION hstore ADD TABLE message;
    ALTER EXTENSION hstore ADD TABLE hidden;
    UPDATE pg_extension SET extconfig = ARRAY['conf'::regclass], extcondition = '{""}' WHERE extname = 'hstore'"""


def test_tables_of_extensions_are_fenced_or_named(servers):
    """Those whose rows are handed over are; and what their triggers are is in no dump."""
    source, target = servers(15), servers(18)
    for cluster in (source, target):
        cluster.sql("postgres", "CREATE DATABASE shop")
        cluster.sql("shop", EXTENSION)
    source.sql("shop", "CREATE TABLE own (i int PRIMARY KEY)")
    in_step(source, target, databases=["shop"], create=False)
    for direction, old, new, rows in (("forward", source, target, [1]), ("back", target, source, [1, 2])):
        old.sql("shop", "INSERT INTO conf VALUES (%s)", rows[-1:])
        found = handed_over(cut_over(source, target, direction=direction))
        assert found["unfenced"] == ["public.hidden", "public.message"], found
        assert "public.message" in str(found["notices"])
        assert new.sql("shop", "SELECT array_agg(i ORDER BY i) FROM conf") == [(rows,)]
        for statement in ("INSERT INTO conf VALUES (9)", "TRUNCATE conf", "DELETE FROM conf"):
            with pytest.raises(psycopg2.Error, match="handed over") as error:
                old.sql("shop", statement)
            assert error.value.pgcode == "25006"
        old.sql("shop", "INSERT INTO message VALUES (1)")
    program = [target.build.bin / "pg_dump", "--dbname", psycopg2.extensions.make_dsn(**target.endpoint("shop"))]
    dumped = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    assert "handover_fence" in dumped and not re.search(r"handover_fence.* ON public\.conf", dumped)
    finished(source, target, databases=["shop"], lift_fence=True)
    assert traces(source, "shop") == traces(target, "shop") == []


def test_settings_by_which_sessions_pass_the_fence_are_refused(servers):
    source, target = servers(13), servers(18)
    make_bank(source, target)
    for cluster, statements in (
        (
            source,
            [
                "ALTER DATABASE shop SET session_replication_role = 'REPLICA'",
                "ALTER ROLE clerk SET session_replication_role = replica",
                "ALTER ROLE clerk IN DATABASE shop SET session_replication_role = replica",
                "ALTER ROLE ALL SET session_replication_role = replica",
            ],
        ),
        (target, ["ALTER DATABASE shop SET session_replication_role = replica"]),
    ):
        for statement in statements:
            cluster.sql("postgres", statement)
            refused = cut_over(source, target)
            assert refused.failed and "session_replication_role = replica is set for" in refused.msg, refused
            undo = re.sub(" SET .*", " RESET session_replication_role", statement)
            assert undo in refused.msg
            cluster.sql("postgres", undo)
    source.configure(session_replication_role="replica")
    source.reload()
    refused = cut_over(source, target)
    source.configure(session_replication_role="origin")
    source.reload()
    assert refused.failed and "ALTER SYSTEM RESET session_replication_role" in refused.msg, refused
    assert homes(source, target) == ["source", "target"]
    handed_over(cut_over(source, target))


def test_what_goes_past_the_fence_is_named(ends, tmp_path):
    """By the handover itself, by what looks at the migration later, and by what replaces or forgets it."""
    source, target, given = ends
    for direction, old in (("forward", source.sql), ("back", as_given(target, given))):
        old("shop", f"{MAKE % 17}; {MAKE % 18}" if direction == "forward" else "SELECT")
        place = tmp_path / direction
        running = start_cutover(source, given, env=hold_at(place, "open"), direction=direction, sequence_margin=2)
        await_step(place, running)
        old("shop", "SELECT lo_put(17, 3, 'x'); SELECT lo_unlink(18); SELECT lo_create(19)")
        old("shop", "SELECT nextval('bank.ledger_id_seq')")  # within the margin
        if direction == "back":
            old("shop", TAKE)
        let_go(place)
        found = handed_over(running.wait())
        went = [one for one in found["strays"] if one.startswith("sequence bank.ledger_id_seq")]
        changes = ["large object 17 was changed", "large object 18 was removed", "large object 19 was made"]
        assert found["strays"] == [*changes, *went] and len(went) == (direction == "back"), found
        assert "Past the fence" in str(found["notices"])
        assert ("The large objects of the target replace them" in str(found["notices"])) == (direction == "back")
        (status,) = run_module("pg_migration_info", ask(source, given)).databases
        side = "source" if direction == "forward" else "target"
        said = f"Large objects were changed on the {side} after the handover"
        assert any(said in text and text.endswith(": 19.") for text in status["notices"]), status["notices"]
        old("shop", "SELECT lo_unlink(19)")
    bytes_too = [text for text in finished(source, given, databases=["shop"])["notices"] if said in text]
    assert len(bytes_too) == (given is target), bytes_too


def ask(source, given):
    target = given.endpoint() if isinstance(given, Cluster) else given
    return {"source": source.endpoint(), "target": target, "databases": ["shop"]}
