# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a continuous migration, in schema handover of the target database.

What a row means is in ``Migration``, ``Wave`` and ``WaveTable``. Times are ISO 8601, by the target's clock.
Every function takes a psycopg2 connection to that database, in autocommit mode.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import transaction
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import columns_of, rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.trust import trust

TABLES = {
    "migration": """
        id text PRIMARY KEY, source jsonb NOT NULL, phase text NOT NULL DEFAULT 'copying',
        started timestamptz NOT NULL DEFAULT clock_timestamp(), copied timestamptz, in_step timestamptz,
        verified jsonb, cut_over timestamptz, rolled_back timestamptz, stopped timestamptz, fingerprint jsonb,
        notices jsonb NOT NULL DEFAULT '[]', pending jsonb NOT NULL DEFAULT '[]', undo text[] NOT NULL DEFAULT '{}',
        direction text NOT NULL DEFAULT 'forward', witness jsonb, failures jsonb NOT NULL DEFAULT '[]',
        shapes jsonb, types jsonb, definitions jsonb, home_definitions jsonb""",
    "wave": """
        migration_id text NOT NULL, number integer NOT NULL, name text NOT NULL, lsn pg_lsn,
        state text NOT NULL DEFAULT 'copying', started timestamptz NOT NULL DEFAULT clock_timestamp(),
        copied timestamptz, subscribed timestamptz, PRIMARY KEY (migration_id, number)""",
    "wave_table": """
        migration_id text NOT NULL, wave integer, schema text NOT NULL, name text NOT NULL, kind text NOT NULL,
        state text NOT NULL DEFAULT 'waiting', bytes bigint, done bigint NOT NULL DEFAULT 0, rows bigint,
        started timestamptz, copied timestamptz, indexed timestamptz, PRIMARY KEY (migration_id, schema, name)""",
    "event": """
        at timestamptz NOT NULL DEFAULT clock_timestamp(), migration_id text NOT NULL, kind text NOT NULL,
        details jsonb NOT NULL DEFAULT '{}'""",
    "sample": """
        at timestamptz NOT NULL DEFAULT clock_timestamp(), migration_id text NOT NULL, retained_bytes bigint,
        lag_bytes bigint, lag_seconds double precision, copied_bytes bigint""",
}

LEAVING = "leaving"  # state of a table without a wave, which the stream of its former one may still carry

# The time that is set, once, when a migration enters a phase.
PHASES = {
    "copying": None,
    "catching_up": "copied",
    "in_step": "in_step",
    "handed_over": "cut_over",
    "stopped": "stopped",
}


@dataclass(frozen=True)
class WaveTable:
    """A table with rows. ``kind``: replicated, one_way (replicated to the target, but copied in the window of a
    rollback, as the target could not publish it) or at_cutover (copied in every window). ``wave``: the number of its
    wave, None before it has one. ``state``: waiting, leaving (its
    former wave), copying, copied, indexed. ``bytes`` is its size on the source,
    ``done`` how much of that was copied when a run that copies looked last.
    """

    wave: int | None
    schema: str
    name: str
    kind: str
    state: str
    bytes: int | None
    rows: int | None
    started: str | None
    copied: str | None
    indexed: str | None
    done: int = 0  # journals of older releases have no place for it


@dataclass(frozen=True)
class Wave:
    """``name`` is that of its publication, slot and subscription; ``lsn`` where its snapshot ends, None before it has
    one. ``state``: copying, subscribed.
    """

    number: int
    name: str
    lsn: str | None
    state: str
    started: str
    copied: str | None
    subscribed: str | None


@dataclass(frozen=True)
class Migration:
    """``source``: system_identifier, version, database, host, port. ``phase``: copying, catching_up, in_step (it was
    once; ask the beacon for now), handed_over, stopped. ``direction``: forward, or back after a rollback's cutover.
    ``fingerprint``: parts/drift.py. ``pending``: constraints to validate once in step, each with schema, table, name
    and statement. ``failures``: definitions that the target refused, as Failure.as_result has them. ``undo``: SQL that
    finish runs on the target.
    """

    id: str
    source: dict
    phase: str
    started: str
    copied: str | None
    in_step: str | None
    verified: dict | None
    cut_over: str | None
    rolled_back: str | None
    stopped: str | None
    fingerprint: dict | None
    notices: list
    pending: list
    undo: list
    direction: str
    failures: list[dict] = field(default_factory=list)
    waves: list[Wave] = field(default_factory=list)
    tables: list[WaveTable] = field(default_factory=list)

    @property
    def replicated(self) -> list[WaveTable]:
        """Tables that a subscription applies changes to, or will."""
        return [table for table in self.tables if table.kind in ("replicated", "one_way")]

    @property
    def one_way(self) -> list[WaveTable]:
        """Those of them that do not come back."""
        return [table for table in self.tables if table.kind == "one_way"]

    @property
    def at_cutover(self) -> list[WaveTable]:
        """Tables that the cutover copies."""
        return [table for table in self.tables if table.kind == "at_cutover"]

    @property
    def subscribed(self) -> list[Wave]:
        """Waves that have their subscription."""
        return [wave for wave in self.waves if wave.state == "subscribed"]

    @property
    def names(self) -> list[str]:
        """Names of these waves' publications, slots and subscriptions."""
        return [wave.name for wave in self.subscribed]


def is_present(connection) -> bool:
    """Whether there is a journal of a continuous migration. Raises HandoverError for a schema that is not ours."""
    return import_journal.has_column(connection, "migration", "phase")


def read_migration(connection, identifier: str | None = None) -> Migration | None:
    """The migration into this database, the last one unless it is named, with its waves and tables; None without."""
    found = read_with(connection, identifier)
    return found[0] if found else None


def read_with(connection, identifier: str | None, *more: str) -> tuple | None:
    """(The same, values of ``more`` SQL expressions); what else the journal has of it is ``j.found``, as jsonb."""
    asked = "".join(f", {one}" for one in more)
    query = f"""
        SELECT j.found - '{{witness,shapes,types,definitions,home_definitions}}'::text[],
            (SELECT json_agg(w ORDER BY number) FROM handover.wave AS w WHERE w.migration_id = m.id),
            (SELECT json_agg(t ORDER BY schema, name) FROM handover.wave_table AS t WHERE t.migration_id = m.id){asked}
        FROM handover.migration AS m, LATERAL (SELECT to_jsonb(m) AS found OFFSET 0) AS j
        WHERE m.id = coalesce(%s, m.id) ORDER BY started DESC LIMIT 1"""
    found = import_journal.rows_of(connection, "migration", "phase", query, (identifier,))
    if not found:
        return None
    migration, waves, tables, *values = found[0]
    return Migration(**migration, waves=_all(Wave, waves), tables=_all(WaveTable, tables)), *values


def read_all(connection) -> list[Migration]:
    """The migrations into this database, with their waves and tables, the most recent last."""
    if not is_present(connection):
        return []
    found = rows(connection, "SELECT id FROM handover.migration ORDER BY started")
    return [read_migration(connection, identifier) for (identifier,) in found]


def begin(connection, identifier: str, source: dict) -> None:
    """Record a migration, in a journal made for it; nothing happens if that is done."""
    with transaction(connection) as cursor:
        import_journal.wait_for_turn(cursor)
        import_journal.make_schema(connection)
        for name, columns in TABLES.items():
            cursor.execute(f"CREATE TABLE IF NOT EXISTS handover.{name} ({columns})")
        cursor.execute(trust.CLOSED)
        cursor.execute(
            "INSERT INTO handover.migration (id, source) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (identifier, json.dumps(source)),
        )


def set_phase(connection, identifier: str, phase: str) -> None:
    """Enter a phase, and remember when that was the first time."""
    time = PHASES[phase]
    once = f", {time} = coalesce({time}, clock_timestamp())" if time else ""
    _execute(connection, f"UPDATE handover.migration SET phase = %s{once} WHERE id = %s", (phase, identifier))


def update(connection, identifier: str, **columns) -> None:
    """Set columns of the migration; dictionaries and lists become jsonb, ``undo`` excepted."""
    assignments = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in columns)
    values = [
        json.dumps(value) if isinstance(value, (dict, list)) and name != "undo" else value
        for name, value in columns.items()
    ]
    statement = sql.SQL("UPDATE handover.migration SET {} WHERE id = %s").format(assignments)
    _execute(connection, statement, [*values, identifier])


def keep_failures(connection, identifier: str, failures: list[dict]) -> None:
    """Record which definitions are not there; journals of older releases have no place for them."""
    _execute(
        connection, "ALTER TABLE handover.migration ADD COLUMN IF NOT EXISTS failures jsonb NOT NULL DEFAULT '[]'", ()
    )
    update(connection, identifier, failures=failures)


def add_undo(connection, identifier: str, statement: str) -> None:
    """Record what finish is to run on the target, unless it is recorded."""
    query = "UPDATE handover.migration SET undo = array_prepend(%s, undo) WHERE id = %s AND NOT undo @> ARRAY[%s]"
    _execute(connection, query, (statement, identifier, statement))


def add_tables(connection, identifier: str, tables: list[tuple[str, str, str, int]]) -> None:
    """Record tables: (schema, name, kind, bytes) each; those that are there stay as they are."""
    values = [(identifier, *table) for table in tables]
    statement = """
        INSERT INTO handover.wave_table (migration_id, schema, name, kind, bytes) VALUES %s ON CONFLICT DO NOTHING"""
    with connection.cursor() as cursor:
        psycopg2.extras.execute_values(cursor, statement, values, page_size=1000)


def remove_tables(connection, identifier: str, tables: list[tuple[str, str]]) -> None:
    """Forget tables, (schema, name) each."""
    for schema, name in tables:
        query = "DELETE FROM handover.wave_table WHERE migration_id = %s AND schema = %s AND name = %s"
        _execute(connection, query, (identifier, schema, name))


def set_kinds(connection, identifier: str, kinds: dict[tuple[str, str], str]) -> None:
    """Record what is to become of tables; what is copied in every window has no wave."""
    query = """
        UPDATE handover.wave_table AS t SET kind = chosen.kind,
            wave = CASE WHEN chosen.kind = 'at_cutover' THEN NULL ELSE t.wave END
        FROM ROWS FROM (unnest(%s::text[]), unnest(%s::text[]), unnest(%s::text[])) AS chosen (schema, name, kind)
        WHERE t.migration_id = %s AND t.schema = chosen.schema AND t.name = chosen.name AND t.kind <> chosen.kind"""
    _execute(connection, query, (*columns_of(list(kinds)), list(kinds.values()), identifier))


def begin_wave(connection, identifier: str, number: int, name: str, tables: list[tuple[str, str]]) -> None:
    """Record a wave and its tables, (schema, name) each, in one statement."""
    query = """
        WITH made AS (INSERT INTO handover.wave (migration_id, number, name) VALUES (%s, %s, %s))
        UPDATE handover.wave_table AS t SET wave = %s, state = 'waiting', started = NULL
        FROM ROWS FROM (unnest(%s::text[]), unnest(%s::text[])) AS chosen (schema, name)
        WHERE t.migration_id = %s AND t.schema = chosen.schema AND t.name = chosen.name"""
    _execute(connection, query, (identifier, number, name, number, *columns_of(tables), identifier))


def join_wave(connection, identifier: str, number: int, tables: list[tuple[str, str]]) -> None:
    """Record that tables, (schema, name) each, came along with a wave, and are copied."""
    query = """
        UPDATE handover.wave_table SET wave = %s, state = 'indexed', copied = clock_timestamp()
        WHERE migration_id = %s AND (schema, name) IN (
            SELECT * FROM ROWS FROM (unnest(%s::text[]), unnest(%s::text[])) AS joined (schema, name))"""
    _execute(connection, query, (number, identifier, *columns_of(tables)))


def set_wave(connection, identifier: str, number: int, state: str | None = None, lsn: str | None = None) -> None:
    """Record where the wave's snapshot ends, or its state: ``copied`` sets the time only."""
    time = {"copied": ", copied = clock_timestamp()", "subscribed": ", subscribed = clock_timestamp()"}.get(state, "")
    kept = state if state != "copied" else None
    query = f"""
        UPDATE handover.wave SET state = coalesce(%s, state), lsn = coalesce(%s, lsn){time}
        WHERE migration_id = %s AND number = %s"""
    _execute(connection, query, (kept, lsn, identifier, number))


def drop_wave(connection, identifier: str, number: int) -> None:
    """Forget a wave; its tables wait for another."""
    query = """
        WITH gone AS (DELETE FROM handover.wave WHERE migration_id = %s AND number = %s)
        UPDATE handover.wave_table SET wave = NULL, state = 'waiting', started = NULL, copied = NULL, indexed = NULL
        WHERE migration_id = %s AND wave = %s"""
    _execute(connection, query, (identifier, number, identifier, number))


def release_tables(connection, identifier: str, number: int, kept: list[tuple[str, str]]) -> None:
    """Let the tables of a wave wait for another, but for those that are ``kept``, (schema, name) each."""
    query = """
        UPDATE handover.wave_table SET wave = NULL, state = 'waiting', started = NULL, copied = NULL, indexed = NULL
        WHERE migration_id = %s AND wave = %s AND (schema, name) NOT IN (
            SELECT * FROM ROWS FROM (unnest(%s::text[]), unnest(%s::text[])) AS kept (schema, name))"""
    _execute(connection, query, (identifier, number, *columns_of(kept)))


def let_leave(connection, identifier: str, tables: list[tuple[str, str]]) -> None:
    """Let tables, (schema, name) each, wait for another wave as soon as theirs does not carry them any more."""
    query = """
        UPDATE handover.wave_table SET wave = NULL, state = %s, started = NULL, copied = NULL, indexed = NULL
        WHERE migration_id = %s AND (schema, name) IN (
            SELECT * FROM ROWS FROM (unnest(%s::text[]), unnest(%s::text[])) AS leaving (schema, name))"""
    _execute(connection, query, (LEAVING, identifier, *columns_of(tables)))


def record_tables(connection, identifier: str, states: list[tuple]) -> None:
    """Record states of tables: (schema, name, state, rows) each, rows None where they are not known."""
    statement = """
        UPDATE handover.wave_table AS t SET state = s.state, rows = coalesce(s.rows, t.rows),
            started = CASE s.state WHEN 'copying' THEN clock_timestamp() ELSE t.started END,
            copied = CASE s.state WHEN 'copied' THEN clock_timestamp() ELSE t.copied END,
            indexed = CASE s.state WHEN 'indexed' THEN clock_timestamp() ELSE t.indexed END
        FROM (VALUES %s) AS s (id, schema, name, state, rows)
        WHERE t.migration_id = s.id AND t.schema = s.schema AND t.name = s.name"""
    values = [(identifier, *state) for state in states]
    with connection.cursor() as cursor:
        template = "(%s, %s, %s, %s, %s::bigint)"
        psycopg2.extras.execute_values(cursor, statement, values, template, page_size=1000)


def make_room_for_done(connection) -> None:
    """Journals of older releases have no place for what ``record_done`` records."""
    statement = "ALTER TABLE handover.wave_table ADD COLUMN IF NOT EXISTS done bigint NOT NULL DEFAULT 0"
    _execute(connection, statement, ())


def record_done(connection, identifier: str, done: dict[tuple[str, str], int]) -> None:
    """Record how much of tables is copied: bytes of their size on the source, by (schema, name)."""
    statement = """
        UPDATE handover.wave_table AS t SET done = s.done FROM (VALUES %s) AS s (id, schema, name, done)
        WHERE t.migration_id = s.id AND t.schema = s.schema AND t.name = s.name"""
    values = [(identifier, *key, amount) for key, amount in done.items()]
    with connection.cursor() as cursor:
        psycopg2.extras.execute_values(cursor, statement, values, page_size=1000)


def add_event(connection, identifier: str, kind: str, **details) -> None:
    """Record that something happened; ``details`` are JSON types without secrets."""
    query = "INSERT INTO handover.event (migration_id, kind, details) VALUES (%s, %s, %s)"
    _execute(connection, query, (identifier, kind, json.dumps(details)))


def last_event(connection, identifier: str, kind: str) -> dict | None:
    """The details of the last event of a kind."""
    query = "SELECT details FROM handover.event WHERE migration_id = %s AND kind = %s ORDER BY at DESC LIMIT 1"
    found = rows(connection, query, (identifier, kind))
    return found[0][0] if found else None


def sequences_left_out(connection, identifier: str) -> set[tuple[str, str]]:
    """(schema, name) of sequences that stay behind with extensions that are left out."""
    found = last_event(connection, identifier, "left_out") or {}
    return set(map(tuple, found.get("relations", ())))


def add_sample(connection, identifier: str, **amounts) -> None:
    """Record amounts: retained_bytes, lag_bytes, lag_seconds, copied_bytes; those not given are unknown."""
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in amounts)
    marks = sql.SQL(", ").join(sql.SQL("%s") for _name in amounts)
    statement = sql.SQL("INSERT INTO handover.sample (migration_id, {}) VALUES (%s, {})").format(columns, marks)
    _execute(connection, statement, [identifier, *amounts.values()])


def add_sample_of_copy(connection, identifier: str) -> None:
    """Record how much is copied by now."""
    statement = """
        INSERT INTO handover.sample (migration_id, copied_bytes)
        SELECT %s, sum(CASE WHEN state IN ('copied', 'indexed') THEN bytes ELSE least(done, bytes) END)
        FROM handover.wave_table WHERE migration_id = %s AND kind <> 'at_cutover'"""
    _execute(connection, statement, (identifier, identifier))


def read_samples(connection, identifier: str, limit: int = 1000) -> list[dict]:
    """The last samples, oldest first: ``at`` and the amounts."""
    query = """
        SELECT to_jsonb(last) - 'migration_id' FROM (
            SELECT * FROM handover.sample WHERE migration_id = %s ORDER BY at DESC LIMIT %s) AS last ORDER BY at"""
    return [sample for (sample,) in rows(connection, query, (identifier, limit))]


def read_curves(connection, identifier: str, points: int) -> list[dict]:
    """All samples as that many points at most, oldest first: of samples that share one, the last time and the highest
    amounts, so that no peak is lost.
    """
    query = """
        SELECT jsonb_build_object('at', max(at), 'retained_bytes', max(retained_bytes), 'lag_bytes', max(lag_bytes),
                                  'lag_seconds', max(lag_seconds), 'copied_bytes', max(copied_bytes))
        FROM (SELECT *, (row_number() OVER (ORDER BY at) - 1) * %s / count(*) OVER () AS point
              FROM handover.sample WHERE migration_id = %s) AS sample
        GROUP BY point ORDER BY point"""
    return [point for (point,) in rows(connection, query, (points, identifier))]


def _all(kind, found: list | None) -> list:
    """Rows as dataclasses; the migration's id is known."""
    return [kind(**{name: value for name, value in row.items() if name != "migration_id"}) for row in found or ()]


def _execute(connection, statement, parameters) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
