# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planner statistics and materialized views: what a fresh copy needs before anybody queries it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import for_each
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OWN_RELATIONS, rows

RELATIONS = {"tables": "c.relkind IN ('r', 'p')", "materialized views": "c.relkind = 'm' AND c.relispopulated"}
# What has no statistics, though it may have rows, has lost its number of rows (by a refresh, or 13 never had it of a
# partitioned table), or has statistics objects without values: pg_dump carries these from 19 to 19 only.
LACKING = """
    AND (c.reltuples < 0
         OR EXISTS (SELECT FROM pg_statistic_ext AS e WHERE e.stxrelid = c.oid AND NOT EXISTS (
             SELECT FROM pg_stats_ext AS v WHERE v.statistics_schemaname = e.stxnamespace::regnamespace::name
             AND v.statistics_name = e.stxname))
         OR (c.relkind = 'p' OR pg_relation_size(c.oid) > 0) AND NOT EXISTS (
             SELECT FROM pg_stats AS s WHERE s.schemaname = n.nspname AND s.tablename = c.relname))"""
STAGES = (1, 10, None)


def analyze(session, connect, jobs: int, kind: str, stages: bool, only_lacking: bool) -> int:
    """ANALYZE all ``tables``, partitioned ones too, or all ``materialized views``; the number of them.

    ``stages`` goes over all with a statistics target of 1, then 10, then the default, as vacuumdb --analyze-in-stages
    does, so that usable plans come early. ``only_lacking`` leaves out what has statistics already.
    ``session`` finds them, those that ``connect()`` returns do the rest.
    """
    query = f"SELECT n.nspname, c.relname FROM {OWN_RELATIONS} AND {RELATIONS[kind]}"
    found = rows(session, f"{query} {LACKING if only_lacking else ''} ORDER BY pg_table_size(c.oid) DESC")
    for target in STAGES if stages else (None,):
        for_each(partial(_with_target, connect, target), found, _analyze, jobs)
    return len(found)


def _with_target(connect, target: int | None):
    connection = connect()
    if target is not None:
        with connection.cursor() as cursor:
            cursor.execute("SET default_statistics_target = %s", (target,))
    return connection


def _analyze(connection, relation: tuple) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(*relation)))


def refresh(
    connection, views: list[tuple[str, str]], guard: Callable[[], AbstractContextManager] = contextlib.nullcontext
) -> dict[tuple[str, str], psycopg2.Error]:
    """Refresh materialized views, in the order given; the error of each that cannot be. pg_dump does not know what a
    view reads through a function: those that fail are tried again after the others, as long as that helps. ``guard()``
    is around each.

    Raises HandoverError if the session is lost.
    """
    errors: dict[tuple[str, str], psycopg2.Error] = {}
    waiting = views
    while waiting:
        errors = {}
        for view in waiting:
            try:
                with guard(), connection.cursor() as cursor:
                    cursor.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(sql.Identifier(*view)))
            except psycopg2.Error as error:
                errors[view] = error
                _require_session(connection, view, error)
        if len(errors) in (0, len(waiting)):
            break
        waiting = list(errors)
    return errors


def _require_session(connection, view: tuple[str, str], error: psycopg2.Error) -> None:
    if connection.closed:
        raise HandoverError(
            f"The session with the target ended while {'.'.join(view)} was refreshed: {one_line(error)}.",
            "Check the server's log for the reason, then run this again.",
        ) from None
