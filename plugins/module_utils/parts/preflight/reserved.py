# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of objects that only superusers can make, as a managed service's administrator is none, or that need files."""

from __future__ import annotations

import re

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, script, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.dependents import tables_needing
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, database_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.newer_rules import STRINGS, refusal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database

# What PostgreSQL keeps to superusers, by the documentation of each CREATE command: catalog, condition on its row.
RESERVED = (
    (
        "pg_proc",
        "o.prokind <> 'a' AND EXISTS (SELECT FROM pg_language AS l WHERE l.oid = o.prolang AND NOT l.lanpltrusted)",
    ),
    ("pg_proc", "o.proleakproof OR o.prosupport <> 0"),
    (
        "pg_proc",
        "EXISTS (SELECT FROM pg_aggregate AS a WHERE a.aggfnoid = o.oid AND a.aggtranstype = 'internal'::regtype)",
    ),
    ("pg_language", "true"),
    ("pg_cast", "o.castmethod = 'b'"),
    ("pg_opclass", "true"),
    ("pg_opfamily", "true"),
    ("pg_type", "o.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type AS e WHERE e.typarray = o.oid)"),
    ("pg_type", "NOT o.typisdefined"),
    ("pg_type", "EXISTS (SELECT FROM pg_range AS r WHERE r.rngtypid = o.oid AND r.rngcanonical <> 0)"),
    ("pg_am", "true"),
    ("pg_ts_parser", "true"),
    ("pg_ts_template", "true"),
    ("pg_foreign_data_wrapper", "true"),
    ("pg_foreign_server", "true"),
    ("pg_publication", "o.puballtables"),
)
OF_SEQUENCES = ("pg_publication", "o.puballsequences")  # 19+
OF_SCHEMAS = ("pg_publication", "EXISTS (SELECT FROM pg_publication_namespace AS p WHERE p.pnpubid = o.oid)")  # 15+
NOT_OF_EXTENSIONS = """NOT EXISTS (
    SELECT FROM pg_depend AS d WHERE d.classid = '{0}'::regclass AND d.objid = o.oid AND d.deptype = 'e')"""


def _reserved(major: int) -> str:
    """A query of (classid, objid)."""
    since = {15: OF_SCHEMAS, 19: OF_SEQUENCES}
    return " UNION ".join(
        f"SELECT '{catalog}'::regclass::oid AS classid, o.oid AS objid FROM {catalog} AS o"
        f" WHERE o.oid >= 16384 AND ({condition}) AND {NOT_OF_EXTENSIONS.format(catalog)}"
        for catalog, condition in (*RESERVED, *(more for first, more in since.items() if major >= first))
    )


@database_check("superuser_objects", "The target's role can create every object.", needs_target=True)
def superuser_objects(database: Database):
    """Functions in C or an untrusted language, base types, casts without a function, operator classes, access methods,
    foreign servers, publications of all tables and more. Services allow some of them, each in its own way.
    """
    if database.target.capabilities.superuser:
        return
    seeds = _reserved(database.server.major)
    query = f"SELECT kind.type, kind.identity FROM ({seeds}) AS s, pg_identify_object(classid, objid, 0) AS kind"
    found = [f"{kind} {identity}" for kind, identity in sorted(database.rows(query))]
    if not found:
        return
    tables = tables_needing(database, seeds)
    yield Finding(
        "warning",
        f"{counted(len(found), 'object')} of classes that PostgreSQL reserves for superusers: {some(found, 5)}.",
        "The target's role is no superuser. What the service refuses is left out, with all that depends on it.",
        "Ask the service which of them it allows, and with which extension.",
        found,
    )
    if tables:
        yield Finding(
            "blocker",
            f"Needed by {counted(len(tables), 'table')}: {some(tables)}.",
            "If the service refuses what they need, they cannot be created there, and the import fails.",
            "Change them on the source to use what every server has, or choose a target that allows it.",
            tables,
        )


@database_check("function_settings", "The target takes the settings that functions bring.", needs_target=True)
def function_settings(database: Database):
    """SET in a function's definition: the target may not know the setting, reserve it for superusers, or refuse the
    value.
    """
    query = f"""
        SELECT o.oid::regprocedure::text, split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1)
        FROM pg_proc AS o, unnest(o.proconfig) AS setting
        WHERE {NOT_OF_EXTENSIONS.format("pg_proc")} ORDER BY 1, 2"""
    found = database.rows(query)
    refused = _refused_settings(database.target, sorted({(name, text) for _function, name, text in found}))
    for level, reason, consequence in (
        ("blocker", "unknown", "The target does not know the parameter: they are left out, with all that needs them."),
        ("blocker", "refused", "The target does not take this value: they are left out, with all that needs them."),
        ("warning", "reserved", "The target's role may not set it: they are left out, with all that depends on them."),
    ):
        concerned = [(function, name) for function, name, text in found if refused.get((name, text)) == reason]
        if concerned:
            seen = some([f"{function} SET {name}" for function, name in concerned])
            warned = "-- First write E'...' for each of their literals in which a backslash escapes.\n"
            before = warned if STRINGS in {name for _function, name in concerned} else ""
            yield Finding(
                level,
                f"{counted(len(concerned), 'function')} with a setting {reason} on the target: {seen}.",
                consequence,
                before + script([f"ALTER ROUTINE {function} RESET {name};" for function, name in concerned]),
                sorted({function for function, _name in concerned}),
            )


def _refused_settings(target: Side, settings: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """``unknown``, ``reserved`` or ``refused``, for each of these (name, value) that the target's role may not give to
    a function.

    Only superusers may give a function a parameter with a dot that no library has defined.
    """
    granted = "has_parameter_privilege(w.name, 'SET')" if target.server.major >= 15 else "false"
    query = f"""
        SELECT w.name, w.value, s.name IS NOT NULL, {granted} OR coalesce(s.context = 'user', false)
        FROM unnest(%s::text[], %s::text[]) AS w (name, value)
        LEFT JOIN pg_settings AS s ON lower(s.name) = lower(w.name)"""
    refused = {}
    names, texts = [name for name, _text in settings], [text for _name, text in settings]
    for name, text, known, allowed in target.rows(query, (names, texts)):
        if not known and "." not in name and not _is_hidden(target, name):
            refused[name, text] = "unknown"
        elif not allowed and not target.capabilities.superuser:
            refused[name, text] = "reserved"
        elif refusal(target, name, text):
            refused[name, text] = "refused"
    return refused


def _is_hidden(target: Side, name: str) -> bool:
    """Whether there is such a parameter, which this role may not even see."""
    try:
        return target.value("SELECT current_setting(%s, true)", (name,)) is not None
    except psycopg2.errors.InsufficientPrivilege:
        return True


@database_check("security_labels", "Nothing has a security label.")
def security_labels(database: Database):
    """SECURITY LABEL needs its provider, a library that the server preloads."""
    query = """
        SELECT provider, count(*)::int FROM (
            SELECT provider FROM pg_seclabel
            UNION ALL SELECT provider FROM pg_shseclabel WHERE classoid = 'pg_database'::regclass
            AND objoid = (SELECT oid FROM pg_database WHERE datname = current_database())) AS labels
        GROUP BY provider ORDER BY provider"""
    for provider, count in database.rows(query):
        yield Finding(
            "warning",
            f"{counted(count, 'security label')} of provider {provider}.",
            "If the target has not loaded the provider, it refuses them, and the import fails.",
            "Load the provider on the target, or export with dump_extra_args: [--no-security-labels].",
            [provider],
        )


# Options of dictionaries that name files, and the suffixes of these (PostgreSQL documentation, 12.6; contrib).
FILES = {
    "dictfile": "dict",
    "afffile": "affix",
    "stopwords": "stop",
    "synonyms": "syn",
    "thesaurus": "ths",
    "rules": "rules",
}


@database_check("text_search_files", "No text search dictionary reads a custom file.")
def text_search_files(database: Database):
    """Dictionary, affix, stop word, thesaurus and synonym files stand in the server's own directory."""
    query = f"""
        SELECT format('%I.%I', n.nspname, o.dictname), o.dictinitoption
        FROM pg_ts_dict AS o JOIN pg_namespace AS n ON n.oid = o.dictnamespace
        WHERE {NOT_OF_EXTENSIONS.format("pg_ts_dict")} AND o.dictinitoption IS NOT NULL AND {{}} ORDER BY 1"""
    shipped = {file for _name, text in database.rows(query.format("o.oid < 16384")) for file in _files(text)}
    own = {name: _files(text) - shipped for name, text in database.rows(query.format("o.oid >= 16384"))}
    names = [name for name, files in own.items() if files]
    if names:
        files = sorted(set().union(*own.values()))
        yield Finding(
            "warning",
            f"{counted(len(names), 'text search dictionary')} reading files: {some(names)} ({some(files)}).",
            "Without the same files, the target refuses them, and the import fails.",
            "Put the files into the target's tsearch_data directory; a service offers only its own files.",
            names,
        )


def _files(options: str) -> set[str]:
    """Files that a dictionary's options name: ``stopwords = 'english'`` gives ``english.stop``."""
    found = re.findall(r"(\w+) = E?'((?:[^']|'')*)'", options)
    return {f"{value}.{FILES[name.lower()]}" for name, value in found if name.lower() in FILES}
