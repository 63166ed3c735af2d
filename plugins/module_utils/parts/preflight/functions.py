# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of functions that rows depend on: what they find by the search path, and what they read.

pg_restore, apply workers and, from 17 on, everything that builds an index or refreshes a view have no search path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, script, some
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import (
    METHODS,
    Finding,
    database_check,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database

CONTINUOUS = ("continuous",)

# Functions with a body as text, and what evaluates them while rows arrive. A constraint that is not valid comes after.
USED = """
    SELECT DISTINCT p.oid::regprocedure::text, l.lanname::text, p.prosrc, use.kind, use.name,
           EXISTS (SELECT FROM unnest(p.proconfig) AS s WHERE s ~ '^search_path='), {sql_body}, use.later
    FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
    JOIN pg_depend AS d ON d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid AND d.deptype IN ('n', 'a'),
    LATERAL (
        SELECT 'index' AS kind, d.objid::regclass::text AS name, NULL AS later FROM pg_class AS c
        WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relkind IN ('i', 'I')
        UNION ALL SELECT 'partition key', d.objid::regclass::text, NULL FROM pg_class AS c
        WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relkind = 'p' AND d.objsubid = 0
        UNION ALL SELECT 'generated column', a.attrelid::regclass::text || '.' || quote_ident(a.attname), NULL
        FROM pg_attrdef AS f JOIN pg_attribute AS a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
        WHERE d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid AND a.attgenerated <> ''
        UNION ALL SELECT 'generated column', a.attrelid::regclass::text || '.' || quote_ident(a.attname), NULL
        FROM pg_attribute AS a WHERE d.classid = 'pg_class'::regclass AND a.attrelid = d.objid
        AND a.attnum = d.objsubid AND a.attgenerated <> '' -- before 15, the column depends, not its expression
        UNION ALL SELECT 'constraint', quote_ident(k.conname) || ' ON ' || owner.name,
                         format('ALTER %1$s DROP CONSTRAINT %2$I; ALTER %1$s ADD CONSTRAINT %2$I %3$s NOT VALID;',
                                owner.name, k.conname, pg_get_constraintdef(k.oid))
        FROM pg_constraint AS k, LATERAL (
            SELECT CASE WHEN k.contypid <> 0 THEN 'DOMAIN ' || k.contypid::regtype::text
                        ELSE 'TABLE ' || k.conrelid::regclass::text END AS name) AS owner
        WHERE d.classid = 'pg_constraint'::regclass AND k.oid = d.objid AND k.convalidated
        UNION ALL SELECT 'materialized view', r.ev_class::regclass::text, NULL
        FROM pg_rewrite AS r JOIN pg_class AS c ON c.oid = r.ev_class
        WHERE d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid AND c.relkind = 'm'
        UNION ALL SELECT 'statistics', quote_ident(s.stxname), NULL FROM pg_statistic_ext AS s
        WHERE d.classid = 'pg_statistic_ext'::regclass AND s.oid = d.objid
        UNION ALL SELECT 'trigger', quote_ident(t.tgname) || ' ON ' || t.tgrelid::regclass::text, NULL
        FROM pg_trigger AS t
        WHERE d.classid = 'pg_trigger'::regclass AND t.oid = d.objid AND t.tgenabled IN ('A', 'R')) AS use
    WHERE p.oid >= 16384 AND l.lanname NOT IN ('c', 'internal')
    AND NOT EXISTS (SELECT FROM pg_depend AS e
                    WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')
    ORDER BY 1, 4, 5"""

# All functions with a body that a caller of theirs may reach; those with an SQL-standard body know whom they call.
ALL = """
    SELECT p.oid::regprocedure::text, n.nspname::text, p.proname::text, l.lanname::text, p.prosrc,
           EXISTS (SELECT FROM unnest(p.proconfig) AS s WHERE s ~ '^search_path='),
           ARRAY(SELECT d.refobjid::regprocedure::text FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass
                 AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass AND d.deptype = 'n')
    FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE p.oid >= 16384 AND l.lanname NOT IN ('c', 'internal') AND NOT EXISTS (
        SELECT FROM pg_depend AS e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')"""

# Names that only a search path finds: (kind, name, schema, all quoted).
NAMES = """
    SELECT DISTINCT 'function', p.proname::text, quote_ident(n.nspname)
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND NOT EXISTS (
        SELECT FROM pg_proc AS s WHERE s.proname = p.proname AND s.pronamespace = 'pg_catalog'::regnamespace)
    UNION ALL SELECT 'relation', c.relname::text, quote_ident(n.nspname)
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (
        SELECT FROM pg_class AS s WHERE s.relname = c.relname AND s.relnamespace = 'pg_catalog'::regnamespace)
    UNION ALL SELECT 'type', t.typname::text, quote_ident(n.nspname)
    FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (
        SELECT FROM pg_type AS s WHERE s.typname = t.typname AND s.typnamespace = 'pg_catalog'::regnamespace)"""

WORD = r'("(?:[^"]|"")+"|[A-Za-z_\u0080-\uffff][\w$]*)'
MENTIONS = {
    "function": re.compile(rf"(?<![\w$.\"]){WORD}\s*\("),
    "relation": re.compile(
        rf"\b(?:FROM|JOIN|INTO|UPDATE|ONLY|TABLE)\s+{WORD}(?![\w$\"]*\s*[.(])"
        rf"|(?<![\w$.\"]){WORD}(?=(?:\.[\w$]+)?%(?:ROW)?TYPE)",
        re.IGNORECASE,
    ),
    "type": re.compile(
        rf"::\s*{WORD}(?!\s*[.(])|\bCAST\s*\([^()]*\bAS\s+{WORD}\s*\)"
        rf"|(?:;|\bDECLARE\b)\s*\w+\s+(?:CONSTANT\s+)?{WORD}\s*(?=;|:=|DEFAULT\b)",
        re.IGNORECASE,
    ),
}
CALLS = re.compile(rf"(?<![\w$.\"])(?:{WORD}\s*\.\s*)?{WORD}\s*\(")
READS = re.compile(rf"\b(?:FROM|JOIN)\s+(?:{WORD}\s*\.\s*)?{WORD}(?!\s*[.(])", re.IGNORECASE)
NOT_CODE = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", re.DOTALL)


@dataclass
class Function:
    """``uses``: what evaluates it. ``found``: what it names without a schema, and ``schemas`` in which that is.
    ``reads_tables``: it names tables, with a schema or without. ``later``: SQL by which constraints come after rows.
    ``parsed``: its body was when it was made, so that names in it need no path, but for those that it calls.
    """

    signature: str
    has_path: bool
    reads_tables: bool
    found: dict
    parsed: bool = False
    uses: list = field(default_factory=list)
    later: list = field(default_factory=list)

    @property
    def schemas(self) -> str:
        return ", ".join(sorted(set(self.found.values())))

    @property
    def for_triggers_only(self) -> bool:
        return all(use.startswith("trigger ") for use in self.uses)


def _functions(database: Database) -> list[Function]:
    """Functions that rows depend on, and those that they call under a search path that is not their own."""
    sql_body = "p.prosqlbody IS NOT NULL" if database.server.major >= 14 else "false"
    rows = database.rows(USED.replace("{sql_body}", sql_body))
    names = {(kind, name): schema for kind, name, schema in database.rows(NAMES)} if rows else {}
    functions: dict[str, Function] = {}
    for signature, language, body, kind, name, has_path, parsed, later in rows:
        if signature not in functions:
            functions[signature] = _function(signature, _code(language, body), has_path, names, parsed)
        functions[signature].uses.append(f"{kind} {name}")
        functions[signature].later += [later] if later else []
    if functions:
        _add_called(functions, database.rows(ALL), names)
    return [one for one in functions.values() if not one.parsed]


def _code(language: str, body: str) -> str:
    return NOT_CODE.sub(" ", body) if language in ("sql", "plpgsql") else ""


def _function(signature: str, code: str, has_path: bool, names: dict, parsed: bool) -> Function:
    return Function(signature, has_path, bool(READS.search(code)), _unqualified(code, names), parsed)


def _add_called(functions: dict[str, Function], rows: list[tuple], names: dict) -> None:
    """What is called by these, by name or as the server knows, and so on; a path of its own ends that."""
    known, by_name = {}, {}
    for signature, schema, name, language, body, has_path, calls in rows:
        known[signature] = (_code(language, body), has_path, calls)
        for key in ((schema, name), (None, name)):
            by_name.setdefault(key, []).append(signature)
    used = set(functions)
    waiting = [one for one in functions.values() if not one.has_path]
    while waiting:
        caller = waiting.pop()
        code, _has_path, calls = known.get(caller.signature, ("", False, []))
        called = {one for key in _calls(code) for one in by_name.get(key, ())} | set(calls)
        for signature in sorted(called & set(known) - set(functions)):
            one = _function(signature, known[signature][0], known[signature][1], names, bool(known[signature][2]))
            one.uses = [use if " through " in use else f"{use} through {caller.signature}" for use in caller.uses]
            functions[signature] = one
            waiting += [] if one.has_path else [one]
    for signature in set(functions) - used:  # the others are of no interest but for what they call
        if not functions[signature].found:
            del functions[signature]


def _calls(code: str) -> set[tuple[str | None, str]]:
    """(schema or None, name) of all that looks like a call."""
    found = set()
    for match in CALLS.finditer(code):
        schema, name = (_folded(word) if word else None for word in match.groups())
        found.add((schema, name))
    return found


def _folded(word: str) -> str:
    return word[1:-1].replace('""', '"') if word.startswith('"') else word.lower()


def _unqualified(code: str, names: dict[tuple[str, str], str]) -> dict[str, str]:
    """What a body names without a schema, with the schema in which it is: ``{"unaccent()": "public"}``."""
    found = {}
    for kind, pattern in MENTIONS.items():
        for match in pattern.finditer(code):
            word = next(filter(None, match.groups()))
            name = _folded(word)
            if (kind, name) in names:
                found[f"{word}()" if kind == "function" else word] = names[kind, name]
    return found


@database_check("search_path_functions", "No function that rows depend on needs a search path.")
def search_path_functions(database: Database):
    """Functions in indexes, generated columns, constraints, materialized views, and triggers that fire in apply. The
    check reads their text, which does not show operators and dynamic statements.
    """
    functions = [one for one in database.once(_functions) if not one.has_path]
    for methods, only_triggers in ((METHODS, False), (CONTINUOUS, True)):
        concerned = [one for one in functions if one.for_triggers_only is only_triggers]
        failing, silent = [one for one in concerned if one.found], [one for one in concerned if not one.found]
        if failing:
            yield _failing(failing, methods)
        if silent:
            names = [one.signature for one in silent]
            yield Finding(
                "info",
                f"{counted(len(silent), 'function')} that rows depend on, without search_path, and with no visible "
                f"names without a schema: {some(names)}.",
                "They keep working, unless their operators or dynamic statements name something without a schema.",
                "",
                names,
                methods,
            )


def _failing(functions: list[Function], methods: tuple) -> Finding:
    shown = [f"{one.signature} ({some(sorted(one.found))}) in {some(one.uses, 2)}" for one in functions]
    statement = "ALTER FUNCTION {} SET search_path = {};"
    return Finding(
        "warning",
        f"{counted(len(functions), 'function')} using names without a schema: {some(shown)}.",
        "The search path is empty while changes are applied: these functions fail."
        if methods == CONTINUOUS
        else (
            "The search path is empty while rows are loaded and indexes built: these functions fail, and so does "
            "the import."
        ),
        script([statement.format(one.signature, one.schemas) for one in functions]),
        [one.signature for one in functions],
        methods,
    )


@database_check("constraint_functions", "No check constraint reads tables.")
def constraint_functions(database: Database):
    """PostgreSQL assumes that a check looks at its own row alone (documentation, 5.5.1): rows arrive in any order."""
    reading = [one for one in database.once(_functions) if one.reads_tables and one.later]
    if reading:
        uses = sorted(
            {use[len("constraint ") :] for one in reading for use in one.uses if use.startswith("constraint ")}
        )
        yield Finding(
            "warning",
            f"{counted(len(uses), 'check constraint')} calling functions that read tables: {some(uses)} "
            f"({some([one.signature for one in reading])}).",
            "A row that a constraint looks for may arrive after the row that it checks: then loading fails.",
            script([statement for one in reading for statement in one.later]),
            uses,
        )
