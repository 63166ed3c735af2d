# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of encoding and locale: whether the target can have the database's, and what sorts otherwise there."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.identifiers import dotted, unquoted
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, script, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OWN_RELATIONS
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.databases import read_properties
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, database_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database

PROVIDERS = {"b": "builtin", "c": "libc", "i": "icu"}
EVERYWHERE = {"c", "posix"}  # of libc, normalised
DEFAULT = 100  # pg_collation.oid of "default", which stands for the database's own


@dataclass(frozen=True)
class Collation:
    """What orders text: the database's default or another; ``name`` is quoted, ``locale`` as its provider knows it.

    ``version`` is recorded in the catalog, None before 15 for the default; ``actual`` is what the library has now,
    None where it is not known. ``predefined``: not part of a dump.
    """

    oid: int
    name: str
    predefined: bool
    provider: str
    locale: str
    version: str | None
    actual: str | None


def _locale_column(side: Side) -> str:
    """Where pg_collation keeps the locale: for ICU in a column of its own since 15, renamed in 17."""
    major = side.server.major
    own = "c.colllocale" if major >= 17 else "c.colliculocale" if major >= 15 else "NULL"
    return f"coalesce({own}, c.collcollate)"


def _libraries(side: Side) -> dict[tuple[str, str], str | None]:
    """Versions of the locales that a server lists, by (provider, normalised locale): None where it does not say."""
    queries = [
        f"""
        SELECT c.collprovider::text, {_locale_column(side)}, pg_collation_actual_version(c.oid)
        FROM pg_collation AS c WHERE c.collprovider <> 'd'"""
    ]
    if side.server.major >= 15:
        locale = "d.datlocale" if side.server.major >= 17 else "d.daticulocale"
        queries.append(f"""
            SELECT d.datlocprovider::text, coalesce({locale}, d.datcollate),
                   pg_database_collation_actual_version(d.oid) FROM pg_database AS d""")
    queries.append("SELECT 'c', datctype, NULL FROM pg_database UNION SELECT 'c', datcollate, NULL FROM pg_database")
    found: dict[tuple[str, str], str | None] = {}
    for query in queries:
        for provider, locale, version in side.rows(query):
            key = PROVIDERS[provider], _normalised(locale or "")
            found[key] = found.get(key) or version
    return found


def _version(libraries: dict, provider: str, locale: str) -> str | None:
    """The version of a locale's order: empty where it never changes, None where it is not known.

    ICU makes locales from keywords; their versions are those of the language, or of all, in the same library. Those of
    the GNU C library have one version.
    """
    name = _normalised(locale)
    if provider == "builtin" or name in EVERYWHERE or name.startswith("c."):
        return ""
    if provider == "icu":
        language = re.split("-u-|@", name)[0]
        return next((libraries[provider, one] for one in (language, "und") if libraries.get((provider, one))), None)
    of_libc = (version for (one, _locale), version in libraries.items() if one == provider and version)
    return libraries.get((provider, name)) or next(of_libc, None)


def _normalised(locale: str) -> str:
    """One spelling for what is the same to the C library: en_US.utf8 and en_US.UTF-8."""
    name, dot, encoding = locale.lower().partition(".")
    return name + dot + encoding.replace("-", "")


def _default(database: Database) -> Collation:
    """The database's own collation."""
    properties = read_properties(database.connection, database.name)
    provider = properties["locale_provider"]
    locale = properties["collate"] if provider == "libc" else properties["locale"]
    if database.server.major >= 15:
        query = "SELECT pg_database_collation_actual_version(oid) FROM pg_database WHERE datname = current_database()"
        actual = database.value(query)
    else:
        actual = _version(database.pair.source.once(_libraries), provider, locale)
    return Collation(
        DEFAULT, "the database's default", False, provider, locale, properties["collation_version"], actual
    )


def _others(database: Database) -> list[Collation]:
    """Collations of the database's own, and predefined ones that columns, indexes or domains use."""
    query = f"""
        WITH used AS (
            SELECT a.attcollation AS oid FROM pg_attribute AS a, {OWN_RELATIONS} AND a.attrelid = c.oid
            UNION SELECT unnest(i.indcollation::oid[]) FROM pg_index AS i WHERE i.indexrelid >= 16384
            UNION SELECT typcollation FROM pg_type WHERE oid >= 16384)
        SELECT c.oid::bigint, format('%I.%I', n.nspname, c.collname), c.oid < 16384 OR c.collnamespace = 11,
               c.collprovider::text, {_locale_column(database)}, c.collversion, pg_collation_actual_version(c.oid)
        FROM pg_collation AS c JOIN pg_namespace AS n ON n.oid = c.collnamespace
        WHERE c.collprovider <> 'd' AND (c.collnamespace <> 11 OR c.oid IN (SELECT oid FROM used))
        AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_collation'::regclass
                        AND d.objid = c.oid AND d.deptype = 'e') ORDER BY 2"""
    return [
        Collation(oid, name, predefined, PROVIDERS[provider], locale or "", version, actual)
        for oid, name, predefined, provider, locale, version, actual in database.rows(query)
    ]


def _uses(database: Database) -> dict[int, dict[str, list[str]]]:
    """By collation: names of ``indexes``, ``unique`` ones, and ``ranges``, tables partitioned by ranges of text."""
    uses: dict[int, dict[str, list[str]]] = defaultdict(lambda: {"indexes": [], "unique": [], "ranges": []})
    indexes = f"""
        SELECT DISTINCT l.oid::bigint, format('%I.%I', n.nspname, x.relname), i.indisunique
        FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid, unnest(i.indcollation::oid[]) AS l (oid),
        {OWN_RELATIONS} AND c.oid = i.indrelid AND c.relkind IN ('r', 'm') AND l.oid <> 0 ORDER BY 2"""
    for oid, name, unique in database.rows(indexes):
        uses[oid]["indexes"].append(name)
        if unique:
            uses[oid]["unique"].append(name)
    ranges = f"""
        SELECT DISTINCT l.oid::bigint, format('%I.%I', n.nspname, c.relname)
        FROM pg_partitioned_table AS p, unnest(p.partcollation::oid[]) AS l (oid),
        {OWN_RELATIONS} AND c.oid = p.partrelid AND p.partstrat = 'r' AND l.oid <> 0 ORDER BY 2"""
    for oid, name in database.rows(ranges):
        uses[oid]["ranges"].append(name)
    return uses


@database_check("encoding", "The encoding is UTF8.")
def encoding(database: Database):
    """A database of the same encoding is made on the target. SQL_ASCII is none: it takes any byte."""
    name = database.value("SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()")
    if name == "SQL_ASCII":
        yield Finding(
            "warning",
            "The encoding is SQL_ASCII: the applications decide what the text means, and it may be a mixture.",
            "The target needs a database with SQL_ASCII, too, with locale C; services may not offer that. A "
            "database with another encoding refuses the first text that does not fit.",
            "Import a dump into a database with ENCODING 'UTF8' and create: false: pg_restore names the first row "
            "that is not UTF-8.",
        )
    elif name != "UTF8":
        yield Finding(
            "info",
            f"The encoding is {name}.",
            "The target's database gets the same encoding, and needs a locale for it.",
        )


@database_check("locale", "The target has the database's locale.", needs_target=True)
def locale(database: Database):
    """CREATE DATABASE takes a provider that the server was built with, and a locale that its library knows."""
    properties = read_properties(database.connection, database.name)
    mapped = database.pair.options.locale_map
    wanted = {mapped.get(properties[name], properties[name]) for name in ("collate", "ctype")}
    found = database.target.once(_libraries)
    if properties["locale_provider"] == "icu" and not _has_icu(found):
        yield Finding(
            "blocker",
            f"The database's locale {properties['locale']} needs ICU, and the target was built without ICU.",
            "The database cannot be created there.",
            "Choose a target with ICU, or create a database with another locale there and use create: false.",
        )
    missing = sorted(one for one in wanted if not _is_there(found, "libc", one))
    if missing:
        certain = any("_" in name for provider, name in found if provider == "libc")
        yield Finding(
            "blocker" if certain else "unknown",
            f"The target does not list the locale {some(missing)}"
            + (
                " of the C library."
                if certain
                else ", nor any other than C: it is unknown whether the C library has it."
            ),
            "If the locale is missing, the database cannot be created.",
            script(
                [
                    f"CREATE DATABASE handover_try TEMPLATE template0 LOCALE '{one}'; DROP DATABASE handover_try;"
                    for one in missing
                ]
            )
            + "\n-- if it fails on the target: locale_map: {"
            + f"{missing[0]}: ...}}",
            missing,
        )


def _has_icu(found: dict) -> bool:
    """From 16 on the catalog has a collation of ICU also where the server was built without it."""
    return any(version for (provider, _locale), version in found.items() if provider == "icu")


def _is_there(found: dict, provider: str, name: str) -> bool:
    """Whether a server has a locale; those of ICU and of PostgreSQL itself come with the provider."""
    if provider == "libc":
        return _normalised(name) in EVERYWHERE or (provider, _normalised(name)) in found
    return _has_icu(found) if provider == "icu" else any(one == provider for one, _locale in found)


@database_check("collations", "The target has every collation.", needs_target=True)
def collations(database: Database):
    """Predefined collations are taken by name, others are made anew from provider and locale."""
    names = {dotted(name) for (name,) in database.target.rows("SELECT collname::text FROM pg_collation")}
    found = database.target.once(_libraries)
    missing = []
    for one in database.once(_others):
        named = not one.predefined or unquoted(one.name).partition(".")[2] in names
        if not named or not _is_there(found, one.provider, one.locale):
            missing.append(one)
    if missing:
        listed = [f"{one.name} ({one.provider} {one.locale})" for one in missing]
        yield Finding(
            "blocker",
            f"The target lacks {counted(len(missing), 'collation')}: {some(listed)}.",
            "Objects that use them cannot be created, and the import fails.",
            "Install the locale there, then SELECT pg_import_system_collations('pg_catalog'); or change the "
            "collation of the columns first.",
            [one.name for one in missing],
        )


@database_check("collation_versions", "Text still sorts as it did when the indexes were built.")
def collation_versions(database: Database):
    """When the C library or ICU changes, the order of text may change, and then indexes on text are wrong: rows are not
    found, duplicates get in, and the target refuses them.
    """
    uses = database.once(_uses)
    for one in [database.once(_default), *database.once(_others)]:
        indexes = uses[one.oid]["indexes"]
        if one.version and one.actual and one.version != one.actual:
            yield Finding(
                "warning",
                f"{one.name} ({one.provider} {one.locale}) was recorded as version {one.version}, the library has "
                f"{one.actual} now. Used by {counted(len(indexes), 'index')}: {some(indexes)}.",
                "These indexes may be wrong. If a unique one has let duplicates in, the import stops at them.",
                script([f"REINDEX INDEX CONCURRENTLY {name};" for name in indexes]) + f"\n{_refresh(database, one)}",
                indexes,
            )
        elif one.oid == DEFAULT and database.server.major < 15 and one.actual != "" and indexes:
            yield Finding(
                "unknown",
                f"A server before 15 does not record which version of {one.provider} {one.locale} sorted its text when "
                f"indexes were built: {some(indexes)}.",
                "If the operating system was upgraded since, they may be wrong, and duplicates stop the import.",
                f"pg_amcheck --heapallindexed --install-missing {shlex.quote(database.name)}",
                indexes,
            )


def _refresh(database: Database, one: Collation) -> str:
    if one.oid == DEFAULT:
        return database.value("SELECT format('ALTER DATABASE %I REFRESH COLLATION VERSION;', current_database())")
    return f"ALTER COLLATION {one.name} REFRESH VERSION;"


@database_check("sort_order", "The target sorts text in the source's order.", needs_target=True)
def sort_order(database: Database):
    """Indexes are built anew on the target, but the order of results and the bounds of text ranges may differ."""
    here, there = database.pair.source.once(_libraries), database.target.once(_libraries)
    uses, unseen = database.once(_uses), []
    for one in [database.once(_default), *database.once(_others)]:
        mapped = database.pair.options.locale_map.get(one.locale, one.locale)
        ours, theirs = _version(here, one.provider, one.locale), _version(there, one.provider, mapped)
        if ours is None or theirs is None:
            unseen.append(f"{one.name} ({one.provider} {one.locale})")
        elif ours != theirs:
            yield _sorted_otherwise(one, ours, theirs, uses[one.oid])
    if unseen:
        yield Finding(
            "unknown",
            f"The versions of {some(unseen)} are not visible on both ends.",
            "If the C library or ICU differs, the order of text may differ, too.",
            "SELECT collname, pg_collation_actual_version(oid) FROM pg_collation WHERE collname ~ '...'; -- on both",
        )


def _sorted_otherwise(one: Collation, here: str, there: str, uses: dict[str, list[str]]) -> Finding:
    indexes, unique, ranges = uses["indexes"], uses["unique"], uses["ranges"]
    return Finding(
        "warning" if ranges else "info",
        f"{one.name} ({one.provider} {one.locale}) is version {here} here and {there} on the target."
        + (f" Used by {counted(len(indexes), 'index')} ({len(unique)} unique): {some(indexes)}." if indexes else "")
        + (f" Partitioned by ranges of it: {some(ranges)}." if ranges else ""),
        "Queries may return rows in another order."
        + (" Rows may belong to other partitions; the partitions that they come from refuse them." if ranges else ""),
        "Export with dump_extra_args: [--load-via-partition-root]." if ranges else "",
        ranges or indexes,
    )
