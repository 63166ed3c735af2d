# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of settings that the application or the dump depends on, and of the client programs on this machine."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, script, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts import clients
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import has_pg_attver
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import (
    Finding,
    database_check,
    server_check,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.newer_rules import refusal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database, Pair

# What queries mean, what they return, and when they end, depends on these.
MEANING = (
    "array_nulls", "backslash_quote", "bytea_output", "DateStyle", "default_table_access_method",
    "default_text_search_config", "default_transaction_deferrable", "default_transaction_isolation",
    "extra_float_digits", "IntervalStyle", "lc_monetary", "lc_numeric", "lc_time", "search_path",
    "standard_conforming_strings", "synchronous_commit", "TimeZone", "timezone_abbreviations",
    "transform_null_equals", "xmlbinary", "xmloption",
)  # fmt: skip
TIMEOUTS = (
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "statement_timeout",
    "transaction_timeout",
)
LIBRARIES = ("shared_preload_libraries", "session_preload_libraries", "local_preload_libraries")


@server_check(
    "settings", "The servers have the same settings, as far as they decide what queries mean.", needs_target=True
)
def settings(pair: Pair):
    """Defaults of sessions of the connecting roles; settings of roles and databases are carried over with them."""
    source, target = pair.source.defaults, pair.target.defaults
    differ = [
        name for name in (*MEANING, *TIMEOUTS) if name in source and name in target and source[name] != target[name]
    ]
    differ = [name for name in differ if not refusal(pair.target, name, source[name])]  # string_literals says it
    if differ:
        differences = [f"{name} is {source[name]!r} on the source, {target[name]!r} on the target" for name in differ]
        yield Finding(
            "warning",
            f"{counted(len(differ), 'setting')} differ: {'; '.join(differences)}.",
            "The application's queries may get another meaning, return other results, or be ended earlier.",
            "On the target, for each database, before the application comes:\n"
            + script([_alter_database(pair, name) for name in differ], most=len(differ)),
            differ,
        )
    before, after = (side.number("max_prepared_transactions") for side in pair.sides)
    if before and not after:
        yield Finding(
            "warning",
            f"max_prepared_transactions is {before} on the source, 0 on the target.",
            "PREPARE TRANSACTION fails there, so an application that uses two-phase commit does not work.",
            f"ALTER SYSTEM SET max_prepared_transactions = {before};\n-- then restart the target",
            ["max_prepared_transactions"],
        )


def _alter_database(pair: Pair, name: str) -> str:
    """The statement with the source's value; search_path is a list of names, and written as such."""
    database = pair.source.value("SELECT quote_ident(%s)", (pair.databases[0],))
    value = pair.source.defaults[name]
    literal = value if name == "search_path" and value else pair.source.value("SELECT quote_literal(%s)", (value,))
    return f'ALTER DATABASE {database} SET "{name}" TO {literal};'


@server_check("preloaded_libraries", "The target preloads every library that the source does.", needs_target=True)
def preloaded_libraries(pair: Pair):
    """Libraries that are in no extension's script but loaded by settings, such as pg_stat_statements or pgaudit."""
    hidden = [side.endpoint.side for side in pair.sides if LIBRARIES[0] not in side.settings]
    if hidden:
        role = [side for side in pair.sides if LIBRARIES[0] not in side.settings][0].capabilities.role  # noqa: RUF015
        yield Finding(
            "unknown",
            f"{LIBRARIES[0]} of the {' and of the '.join(hidden)} is not visible to this role.",
            remedy=f'GRANT pg_read_all_settings TO "{role}";\n-- or look as a superuser: SHOW {LIBRARIES[0]};',
        )
        return
    before, after = map(_libraries, pair.sides)
    missing = sorted(before - after)
    if missing:
        yield Finding(
            "warning",
            f"The source preloads {some(missing)}, the target does not.",
            "What these libraries do is missing there, and extensions that need them fail or do nothing.",
            "If the target has them, add them to its shared_preload_libraries and restart it.",
            missing,
        )


def _libraries(side: Side) -> set[str]:
    names = ",".join(side.defaults.get(setting) or "" for setting in LIBRARIES).split(",")
    return {name.strip(' "').rpartition("/")[2] for name in names if name.strip(' "')}


@database_check("lock_table", "The source's lock table has room for a lock on every table.")
def lock_table(database: Database):
    """pg_dump locks all tables at once, so does the cutover (PostgreSQL documentation, 19.12)."""
    number = database.pair.source.number
    each = number("max_locks_per_transaction")
    room = each * (number("max_connections") + number("max_prepared_transactions"))
    tables = len(database.tables)
    if tables > room:
        sessions = number("max_connections") + number("max_prepared_transactions")
        yield Finding(
            "warning",
            f"{counted(tables, 'table')} have to be locked at once; max_locks_per_transaction = {each} "
            f"has room for about {room} locks.",
            "The dump fails with: out of shared memory. While it runs, other sessions may fail, too.",
            f"ALTER SYSTEM SET max_locks_per_transaction = {-(-2 * tables // sessions)};\n-- then restart the source",
        )


def _importable(found: list[clients.Client], chosen: clients.Client, target: int, searched: list[str] | None):
    """Whether a pg_restore that is here can bring what this pg_dump writes to the target."""
    try:
        clients.choose_for_restore(found, chosen.major, target, searched)
    except HandoverError as error:
        yield Finding(
            "blocker",
            error.problem,
            "The import of a dump fails; a direct copy does not need that client. pg_restore of "
            f"{clients.RESTORES_TO_NO_NEWER} and later refuses servers newer than itself.",
            f"Install the client programs of PostgreSQL {target} on the machine where the modules run.",
            methods=("dump",),
        )


@server_check("clients", "pg_dump and pg_restore that fit are on this machine.")
def client_programs(pair: Pair):
    """Of the source's major or later, and best not later than the target's."""
    searched = pair.options.client_directory
    source, target = pair.source.server.major, pair.target.server.major if pair.target else None
    found, marked = clients.find_clients(searched), has_pg_attver(pair.source.connection)
    try:
        chosen = clients.choose_for_dump(found, source, target, marked, searched)
    except HandoverError as error:
        yield Finding("blocker", error.problem, "Neither structure nor data can be read.", error.remedy)
        return
    if target and target >= source:
        yield from _importable(found, chosen, target, searched)
    if target and chosen.major > target:
        yield Finding(
            "info",
            f"The only pg_dump that fits, {chosen.version}, is newer than the target's major, {target}.",
            "It may write statements that the target does not know; the import removes the known ones.",
            f"Install the client programs of PostgreSQL {target} on the machine where the modules run.",
        )
    if marked and not chosen.knows_pg_attver:
        yield Finding(
            "info",
            f"The source marks columns with an internal option, pg_attver; pg_dump {chosen.version} dumps it, too.",
            "The import removes it. If you restore the dump by hand, remove it yourself.",
            f"Install the newest minor of the client programs of PostgreSQL {chosen.major}.",
        )
