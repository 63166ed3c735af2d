# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of extensions: whether the target has them, in which version, for whom, and what they keep to themselves."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, script, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.dependents import (
    tables_needing,
    views_needing,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import (
    METHODS,
    Finding,
    database_check,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database

CONTINUOUS = ("continuous",)

# Settings in which services list the extensions that their users may create; * stands for all that they offer.
ALLOW_LISTS = ("azure.extensions", "extwlist.extensions", "rds.allowed_extensions", "supautils.privileged_extensions")

SEED = "SELECT 'pg_extension'::regclass::oid AS classid, oid AS objid FROM pg_extension WHERE extname = %s"


@dataclass(frozen=True)
class Offer:
    """What the target has of one extension; ``reserved``: its control file says that only superusers create it."""

    default_version: str
    reserved: bool


def _extensions(database: Database) -> list[tuple[str, str]]:
    """(name, version) of what the database has; plpgsql is everywhere."""
    return database.rows("SELECT extname::text, extversion FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1")


def _offers(target: Side) -> dict[str, Offer]:
    """Extensions whose files the target has (PostgreSQL documentation, 53.3 and 53.4)."""
    query = """
        SELECT e.name::text, e.default_version, coalesce(v.superuser AND NOT v.trusted, true)
        FROM pg_available_extensions AS e
        LEFT JOIN pg_available_extension_versions AS v ON v.name = e.name AND v.version = e.default_version"""
    return {name: Offer(version, reserved) for name, version, reserved in target.rows(query)}


@database_check("extensions", "The target has every extension.", needs_target=True)
def extensions(database: Database):
    """What needs a missing extension cannot be made; if that is a table, the import refuses to go on."""
    offers = database.target.once(_offers)
    for name, version in database.once(_extensions):
        if name not in offers:
            tables = tables_needing(database, SEED, (name,))
            seen = f"The target does not have the extension {name} ({version} here)."
            yield _left_out(name, seen, tables, "Install it on the target")


def _left_out(name: str, seen: str, tables: list[str], remedy: str) -> Finding:
    """An extension that the target will not have, and what of the database goes with it."""
    if not tables:
        consequence = "It is left out with all that depends on it: functions, indexes, views."
        return Finding("warning", seen, consequence, f"{remedy}, or do without.", [name])
    return Finding(
        "blocker",
        f"{seen} Needed by {counted(len(tables), 'table')}: {some(tables)}.",
        "They cannot be made without it, and the import fails.",
        f"{remedy}, or leave it out together with these tables: exclude_extensions: [{name}].",
        [name],
    )


@database_check("extension_versions", "The target makes every extension in the same version.", needs_target=True)
def extension_versions(database: Database):
    """A dump says CREATE EXTENSION without a version, which gives the target's default."""
    offers = database.target.once(_offers)
    found = [
        (name, version, offers[name].default_version)
        for name, version in database.once(_extensions)
        if name in offers and offers[name].default_version != version
    ]
    harmless = []
    for name, here, there in found:
        views = views_needing(database, SEED, (name,))
        older, other_major = _order(there) < _order(here), _order(there)[:1] != _order(here)[:1]
        if not (views or older or other_major):
            harmless.append((name, here, there))
            continue
        yield Finding(
            "warning",
            f"Extension {name} is {here} here, and the target makes {there}."
            + (f" Views that use it: {some(views)}." if views else ""),
            "The target lacks what was added since."
            if older
            else "Columns, functions and formats may differ between these versions.",
            f"Install {name} {here} on the target, or try a dump of the schema there first.",
            [name],
        )
    if harmless:
        yield Finding(
            "info",
            f"{counted(len(harmless), 'extension')} newer on the target: "
            f"{some([f'{name} {here} -> {there}' for name, here, there in harmless], 9)}.",
            "The target makes its own version of each.",
            "",
            [name for name, _here, _there in harmless],
        )


def _order(version: str) -> list[int]:
    """A version as numbers, to compare it with another of the same extension."""
    return [int(part) for part in re.findall(r"\d+", version)]


@database_check("extension_rights", "The target's role may create every extension.", needs_target=True)
def extension_rights(database: Database):
    """From 13 on, everybody with CREATE on the database may create trusted extensions. Services also allow others, and
    some list them in a setting.
    """
    if database.target.capabilities.superuser:
        return
    offers, allowed = database.target.once(_offers), database.target.once(_allow_list)
    doubtful = []
    for name, _version in database.once(_extensions):
        if name not in offers or not offers[name].reserved or {name, "*"} & allowed:
            continue
        tables = tables_needing(database, SEED, (name,))
        if allowed:
            yield _left_out(name, f"Extension {name} is not on the target's list.", tables, "Add it to that list")
        else:
            doubtful.append((name, tables))
    if doubtful:
        names = [name for name, _tables in doubtful]
        needing = sorted({table for _name, tables in doubtful for table in tables})
        yield Finding(
            "unknown",
            (
                f"{counted(len(doubtful), 'extension')} reserved for superusers, and the target's role is none: "
                f"{some(names, 9)}. Needed by {counted(len(needing), 'table')}"
            )
            + (f": {some(needing)}." if needing else "."),
            "What the service refuses is left out; if a table needs it, the import fails.",
            "-- try it in an empty database of the target:\n"
            + script([f"BEGIN; CREATE EXTENSION {_quoted(name)} CASCADE; ROLLBACK;" for name in names], 9),
            names,
        )


def _allow_list(target: Side) -> set[str]:
    """Extensions that the service says everybody may create; empty where it says nothing."""
    query = "SELECT coalesce(string_agg(current_setting(name, true), ','), '') FROM unnest(%s) AS name"
    words = target.value(query, (list(ALLOW_LISTS),)).split(",")
    return {word.strip().strip('"').lower() for word in words} - {""}


def _quoted(name: str) -> str:
    """A name as SQL wants it."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


@database_check("extension_tables", "No extension has tables with rows of their own.")
def extension_tables(database: Database):
    """Tables that are members of an extension: a dump holds only rows that the extension calls its configuration;
    logical replication holds none.
    """
    query = """
        SELECT e.extname::text, format('%I.%I', n.nspname, c.relname), c.oid = ANY (coalesce(e.extconfig, '{}'))
        FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid JOIN pg_class AS c ON c.oid = d.objid
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE d.deptype = 'e' AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass
        AND c.relkind = 'r' AND pg_relation_size(c.oid) > 0 ORDER BY 1, 2"""
    found = database.rows(query)
    for kept, methods, consequence in (
        (
            True,
            CONTINUOUS,
            "Rows that the extension calls the user's come with the schema; later changes do not.",
        ),
        (
            False,
            METHODS,
            "Their rows are not carried over: a dump leaves them to the extension, which makes only its own.",
        ),
    ):
        tables = [(extension, table) for extension, table, config in found if config is kept]
        if tables:
            names = [table for _extension, table in tables]
            owners = sorted({extension for extension, _table in tables})
            yield Finding(
                "warning",
                f"{counted(len(tables), 'table')} with rows that belong to extensions ({some(owners)}): {some(names)}.",
                consequence,
                "Check what the extension's documentation says about backups, or copy these rows by hand at the "
                "cutover.",
                names,
                methods,
            )


# name: (level, methods, consequence, remedy), from the documentation of each extension on backup and migration.
SPECIAL = {
    "timescaledb": (
        "blocker", METHODS,
        "An import fails at foreign keys between the tables of its catalog, and hypertables are not replicated.",
        "Use the extension's own way of migration, or turn hypertables into partitioned tables first.",
    ),
    "citus": (
        "blocker", METHODS,
        "The rows of distributed tables are on the workers, which are servers of their own.",
        "Undistribute the tables first: SELECT undistribute_table('...'); or use the extension's own way of migration.",
    ),
    "pglogical": (
        "warning", METHODS,
        "The extension comes along empty: its nodes, replication sets and subscriptions stay on the source.",
        "After the cutover, make what you still need on the target, and drop the source's.",
    ),
    "pg_partman": (
        "warning", CONTINUOUS,
        "Its maintenance makes and drops partitions; replication does not carry such changes of the schema.",
        "Make the partitions of the next weeks before, and pause its maintenance until the cutover.",
    ),
    "pg_cron": (
        "warning", METHODS,
        "The target makes it only in the database that cron.database_name names. Its jobs come along, and run twice.",
        "Set cron.database_name on the target, and hold the jobs there until the cutover with cron.alter_job().",
    ),
    "postgis": (
        "warning", METHODS,
        "Reference systems that were added to spatial_ref_sys come along; changes of the shipped ones do not.",
        "Make such changes on the target by hand, too.",
    ),
    "pgsodium": (
        "warning", METHODS,
        "Its root key is outside of the database, so the target cannot read values that it encrypted.",
        "Take the root key along, or decrypt the values first.",
    ),
    "supabase_vault": (
        "warning", METHODS,
        "Its root key is outside of the database, so the target cannot read its secrets.",
        "Take the root key along, or write down the secrets and store them anew.",
    ),
    "pg_tde": (
        "warning", METHODS,
        "Its keys are outside of the database, and tables that name its access method need it on the target.",
        "ALTER TABLE ... SET ACCESS METHOD heap; first, where the target does not have it.",
    ),
}  # fmt: skip


@database_check("special_extensions", "No extension needs special treatment.")
def special_extensions(database: Database):
    """Extensions that keep rows, keys or workers outside the reach of pg_dump and logical replication."""
    for name, version in database.once(_extensions):
        if name in SPECIAL:
            level, methods, consequence, remedy = SPECIAL[name]
            yield Finding(
                level, f"The database has the extension {name} {version}.", consequence, remedy, [name], methods
            )
