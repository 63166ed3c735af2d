# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What replication does not bring, changed while the database is handed over by who goes past the poolers."""

from __future__ import annotations

import pytest
from cutovers import await_step, cut_over, handed_over, hold_at, homes, let_go, make_bank, start_cutover
from faults import await_that

TAKE = "SELECT nextval('bank.ledger_id_seq') FROM generate_series(1, 3)"


@pytest.mark.parametrize("majors", [(13, 16), (15, 18)])
def test_no_value_of_a_sequence_is_given_twice(servers, tmp_path, majors):
    """Not those either that were fetched after the window had read it, nor after the commit, also where it is a
    program left behind, or the next run, that lets the new home in."""
    source, target = (servers(major) for major in majors)
    make_bank(source, target)
    for number, (step, end) in enumerate([
        ("commit", "finish"), ("overtake", "finish"), ("overtake", "kill"), ("overtake", "kill_family"),
    ]):  # fmt: skip
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
    for number, (direction, before, meanwhile, copied) in enumerate([
        ("forward", "SELECT", MAKE % 17, 1), ("back", "SELECT", "SELECT lo_unlink(17)", 1),
        ("forward", ";".join(MAKE % oid for oid in range(200, 205)), CHANGES, 6), ("back", "SELECT", "SELECT", 0),
        ("forward", "SELECT", "SELECT", 0),
    ]):  # fmt: skip
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
