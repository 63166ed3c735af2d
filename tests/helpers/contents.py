# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that is in a database, read from the catalogs, in a form that does not depend on the server's major.

This is how tests look at both ends of a migration. It shares no line with the collection, so a mistake there cannot
hide itself here. What it leaves out, because majors differ in it by design: not-null constraints as objects (18),
the MAINTAIN privilege (17), versions and comments of extensions, quotes around names of small letters (keywords come
with majors), and spelling in the definitions of views and rules, of which it compares words only (16 writes fewer
qualifiers than 15) - and what the views return, and which functions and operators all definitions use.

Where servers write the same in other words, :func:`as_written_by` puts the words of one server in place of another's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import psycopg2

Contents = dict[str, dict[str, Any]]

# Text forms of values must not depend on settings of role, database or server.
SESSION = """
SET search_path = ''; SET row_security = off; SET timezone = 'UTC'; SET datestyle = 'ISO, YMD';
SET intervalstyle = 'iso_8601'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C';
SET xmloption = 'content'; SET quote_all_identifiers = off; SET statement_timeout = 0; SET jit = off;
SET standard_conforming_strings = on;
SET default_transaction_read_only = on; SET client_encoding = 'UTF8'
"""

# catalog: (column of the owner, column of the privileges, kind of object as acldefault() knows it)
CATALOGS = {
    "pg_am": (None, None, None),
    "pg_cast": (None, None, None),
    "pg_class": ("relowner", "relacl", "CASE relkind WHEN 'S' THEN 's' ELSE 'r' END"),
    "pg_collation": ("collowner", None, None),
    "pg_conversion": ("conowner", None, None),
    "pg_event_trigger": ("evtowner", None, None),
    "pg_extension": ("extowner", None, None),
    "pg_foreign_data_wrapper": ("fdwowner", "fdwacl", "'F'"),
    "pg_foreign_server": ("srvowner", "srvacl", "'S'"),
    "pg_language": ("lanowner", "lanacl", "'l'"),
    "pg_largeobject_metadata": ("lomowner", "lomacl", "'L'"),
    "pg_namespace": ("nspowner", "nspacl", "'n'"),
    "pg_opclass": ("opcowner", None, None),
    "pg_operator": ("oprowner", None, None),
    "pg_opfamily": ("opfowner", None, None),
    "pg_policy": (None, None, None),
    "pg_proc": ("proowner", "proacl", "'f'"),
    "pg_publication": ("pubowner", None, None),
    "pg_rewrite": (None, None, None),
    "pg_statistic_ext": ("stxowner", None, None),
    "pg_transform": (None, None, None),
    "pg_trigger": (None, None, None),
    "pg_ts_config": ("cfgowner", None, None),
    "pg_ts_dict": ("dictowner", None, None),
    "pg_ts_parser": (None, None, None),
    "pg_ts_template": (None, None, None),
    "pg_type": ("typowner", "typacl", "'T'"),
    "pg_user_mapping": (None, None, None),
}

# What came along with another object (deptype i): array types, the multirange of a range and its functions.
NOT_BY_ITSELF = """NOT EXISTS (SELECT FROM pg_depend AS i WHERE i.classid = '{}'::regclass AND i.objid = o.oid
    AND i.objsubid = 0 AND i.deptype = 'i')"""

# What is an object of its own in these catalogs: not indexes, TOAST tables, temporary schemas, clones on partitions.
OWN_OBJECTS = {
    "pg_cast": NOT_BY_ITSELF.format("pg_cast"),
    "pg_class": "relkind IN ('r','p','v','m','S','f','c') AND relnamespace::regnamespace::text !~ '^pg_(toast|temp)'",
    "pg_namespace": "nspname !~ '^pg_(toast_)?temp_'",
    "pg_proc": NOT_BY_ITSELF.format("pg_proc"),
    "pg_rewrite": "rulename <> '_RETURN'",
    "pg_trigger": "NOT tgisinternal AND tgparentid = 0",
    "pg_type": NOT_BY_ITSELF.format("pg_type"),
}

USER_RELATION = """c.relnamespace NOT IN (SELECT oid FROM pg_namespace
    WHERE nspname ~ '^pg_' OR nspname = 'information_schema')
  AND NOT EXISTS (SELECT FROM pg_depend AS e WHERE e.classid = 'pg_class'::regclass
    AND e.objid = c.oid AND e.objsubid = 0 AND e.deptype = 'e')"""


def contents(connection: Any, views: bool = True, data: bool = True) -> Contents:
    """What the database of this (superuser's) connection holds: section -> object -> what it is.

    :param views: whether to ask every view for its rows. A view over ``now()`` or ``random()`` never compares equal.
    :param data: whether to read the rows of tables, sequences' positions, and large objects.
    """
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(SESSION)
        version = connection.server_version // 10000
        found: Contents = {"objects": _objects(cursor)}
        for section, query in _definitions(version).items():
            found[section] = _asked(cursor, query)
        if data:
            found["rows"] = _rows(cursor, WITH_ROWS)
            found["positions"] = _positions(cursor)
            found["large objects"] = _asked(cursor, LARGE_OBJECTS)
        if data and views:
            found["rows of views"] = _rows(cursor, VIEWS, may_fail=True)
    found = {section: _without_quotes(objects) for section, objects in found.items()}
    for section in ("relations", "rules", "functions"):
        found[section] = {name: _spelled_alike(value) for name, value in found[section].items()}
    return found


# What servers write of what they keep in another form.
WRITTEN_BY_SERVERS = {
    "relations": ("definition", "partition_key", "partition_bound"),
    "columns": ("default_value",),
    "constraints": ("sql",),
    "indexes": ("sql",),
    "functions": ("definition", "arguments"),
    "types": ("typdefault",),
    "collations": ("collate", "ctype"),
    "triggers": ("sql",),
    "rules": ("definition",),
    "policies": ("using", "with_check"),
    "statistics objects": ("sql",),
    "publications": ("tables",),
    "database": ("locale", "datcollate", "datctype"),
}


def as_written_by(copy: Contents, found: Contents) -> Contents:
    """What was found in a database, in the words in which another server writes them of a ``copy`` of its schema."""
    written = dict(found)
    for section, keys in WRITTEN_BY_SERVERS.items():
        written[section] = {
            name: {**known, **{key: copy[section][name][key] for key in keys if name in copy[section]}}
            for name, known in found[section].items()
        }
    return written


def differences(one: Contents, other: Contents, ignore: Iterable[str] = ()) -> list[str]:
    """One line for everything in which two databases differ; ``ignore`` holds patterns of ``section/object``."""
    ignored = [re.compile(pattern, re.DOTALL) for pattern in ignore]
    lines = []
    for section in sorted({*one, *other}):
        left, right = one.get(section, {}), other.get(section, {})
        for name in sorted({*left, *right}):
            place = f"{section}/{name}"
            here, there = left.get(name, "(absent)"), right.get(name, "(absent)")
            if here != there and not any(pattern.fullmatch(place) for pattern in ignored):
                lines.append(f"{place}: {_apart(here, there)}")
    return lines


def assert_same(one: Contents, other: Contents, ignore: Iterable[str] = ()) -> None:
    """Both databases hold the same, but for what ``ignore`` names as in :func:`differences`."""
    found = differences(one, other, ignore)
    assert not found, f"{len(found)} differences:\n" + "\n".join(found)


def _apart(left: Any, right: Any) -> str:
    if isinstance(left, dict) and isinstance(right, dict):
        apart = {key for key in {*left, *right} if left.get(key) != right.get(key)}
        return "; ".join(f"{key}: {left.get(key)!r} != {right.get(key)!r}" for key in sorted(apart))
    return f"{left!r} != {right!r}"


def _asked(cursor: Any, query: str) -> dict[str, Any]:
    """Rows as a dictionary: the first column is the key, the others are what is known about it."""
    cursor.execute(query)
    names = [column.name for column in cursor.description][1:]
    found = {}
    for key, *known in cursor.fetchall():
        assert key not in found, f"two objects share the name {key}"
        found[key] = dict(zip(names, known))
    return found


# As somebody wrote it, so that quotes mean something.
WRITTEN = {"owner", "privileges", "comment", "labels", "prosrc", "proconfig", "settings", "options", "agginitval"}


def _without_quotes(objects: dict[str, Any]) -> dict[str, Any]:
    """The objects of a section, names as a server writes them to which nothing is a keyword, nor json (as to 17)."""
    found = {}
    for name, known in objects.items():
        plain = _plain(name)
        assert plain not in found, f"two objects share the name {plain}"
        found[plain] = {key: one if key in WRITTEN else _plain(one) for key, one in known.items()}
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, str):
        return value
    pieces = re.split(r"""('(?:''|[^'])*'|"(?:""|[^"])*")""", value)
    for number in range(1, len(pieces), 2):
        if re.fullmatch(r'"[a-z_][a-z_0-9]*"', pieces[number]) and pieces[number] != '"char"':
            pieces[number] = pieces[number][1:-1]
    return re.sub(r"\bpg_catalog\.(?=json\b)", "", "".join(pieces))


def _spelled_alike(value: dict[str, Any]) -> dict[str, Any]:
    """Definitions without what majors write differently: white space, parentheses, qualifiers, and the word AS."""
    return {key: _words(text) if key == "definition" and text else text for key, text in value.items()}


def _words(text: str) -> str:
    return re.sub(r'\bAS\b|[\s()]|(?:"(?:[^"]|"")+"|\w+)\.(?=["\w*])', "", text)


# --- every object: owner, privileges, comment, label -----------------------------------------------------------------


def _objects(cursor: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for catalog, (owner, privileges, kind) in CATALOGS.items():
        found.update(_asked(cursor, _object_query(catalog, owner, privileges, kind)))
    return found


def _object_query(catalog: str, owner: str | None, privileges: str | None, kind: str | None) -> str:
    expanded = f'coalesce({privileges}, acldefault(({kind})::"char", {owner}))' if privileges else "NULL"
    mine = "o.oid >= 16384 OR o.oid = 2200" if catalog != "pg_largeobject_metadata" else "true"
    own = OWN_OBJECTS.get(catalog, "true")
    return f"""
    SELECT i.type || ' ' || regexp_replace(i.identity, '^(for .*) on (language .*)$', '\\1 \\2'),
           {f"pg_get_userbyid({owner})" if owner else "NULL::name"} AS owner,
           {_privileges(expanded)} AS privileges,
           CASE i.type WHEN 'extension' THEN NULL
             ELSE obj_description(o.oid, {_described_as(catalog)}) END AS comment,
           (SELECT array_agg(s.provider || ': ' || s.label ORDER BY s.provider)
              FROM pg_seclabel AS s WHERE s.objoid = o.oid AND s.objsubid = 0
              AND s.classoid = '{catalog}'::regclass) AS labels
      FROM {catalog} AS o,
           pg_identify_object({_classid(catalog)}, o.oid, 0) AS i
     WHERE ({mine}) AND {own}
       AND NOT EXISTS (SELECT FROM pg_depend AS e WHERE e.classid = {_classid(catalog)}
                          AND e.objid = o.oid AND e.objsubid = 0 AND e.deptype = 'e')"""


def _classid(catalog: str) -> str:
    """Large objects are known under the catalog of their data."""
    return f"'{catalog.replace('_metadata', '')}'::regclass"


def _described_as(catalog: str) -> str:
    return f"'{catalog.replace('_metadata', '')}'"


def _privileges(acl: str) -> str:
    """An expression: sorted ``grantee=privilege*`` (star: with grant option), whoever granted it."""
    return f"""(SELECT array_agg(DISTINCT g ORDER BY g) FROM (
        SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END
               || '=' || a.privilege_type || CASE WHEN a.is_grantable THEN '*' ELSE '' END AS g
          FROM aclexplode({acl}) AS a WHERE a.privilege_type <> 'MAINTAIN'
          AND pg_get_userbyid(a.grantee) !~ '^handover_[0-9a-f]+_apply$') AS expanded)"""


# --- definitions, one query a section --------------------------------------------------------------------------------


PUBLISHED_SCHEMAS = """(SELECT array_agg(nspname ORDER BY nspname) FROM pg_publication_namespace
    JOIN pg_namespace AS n ON n.oid = pnnspid WHERE pnpubid = p.oid)"""


def _definitions(version: int) -> dict[str, str]:
    """Section -> query; ``version`` is the server's major, for columns that came or went between 13 and 18."""

    def since(major: int, column: str, otherwise: str) -> str:
        return column if version >= major else otherwise

    return {
        "database": f"""
    SELECT 'database', pg_encoding_to_char(encoding) AS encoding, datcollate, datctype, datconnlimit, datistemplate,
           datallowconn, pg_get_userbyid(datdba) AS owner, spcname AS tablespace,
           {since(15, "datlocprovider::text", "'c'")} AS provider,
           {since(17, "datlocale", since(15, "daticulocale", "NULL"))} AS locale,
           {since(16, "daticurules", "NULL")} AS rules,
           {_privileges("coalesce(datacl, acldefault('d', datdba))")} AS privileges,
           shobj_description(d.oid, 'pg_database') AS comment,
           (SELECT array_agg(DISTINCT coalesce(setrole::regrole::text, '') || ': ' || s ORDER BY
                             coalesce(setrole::regrole::text, '') || ': ' || s)
              FROM pg_db_role_setting, unnest(setconfig) AS s WHERE setdatabase = d.oid) AS settings
      FROM pg_database AS d JOIN pg_tablespace AS t ON t.oid = dattablespace WHERE datname = current_database()""",
        "relations": f"""
    SELECT c.oid::regclass::text, relkind::text, relpersistence::text, relrowsecurity, relforcerowsecurity,
           {_sorted("reloptions")} AS options,
           (SELECT array_agg(o ORDER BY o) FROM pg_class AS t, unnest(t.reloptions) AS o WHERE t.oid = c.reltoastrelid)
             AS toast_options, relreplident::text, relispopulated,
           (SELECT amname FROM pg_am WHERE pg_am.oid = relam) AS access_method,
           (SELECT spcname FROM pg_tablespace AS s WHERE s.oid = reltablespace) AS tablespace,
           CASE relkind WHEN 'p' THEN pg_get_partkeydef(c.oid) END AS partition_key,
           pg_get_expr(relpartbound, c.oid) AS partition_bound,
           (SELECT array_agg(inhparent::regclass::text ORDER BY inhseqno) FROM pg_inherits WHERE inhrelid = c.oid)
             AS parents,
           CASE WHEN reloftype <> 0 THEN format_type(reloftype, NULL) END AS of_type,
           CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END AS definition,
           (SELECT srvname FROM pg_foreign_table JOIN pg_foreign_server AS s ON s.oid = ftserver WHERE ftrelid = c.oid)
             AS server,
           (SELECT array_agg(o ORDER BY o) FROM pg_foreign_table, unnest(ftoptions) AS o WHERE ftrelid = c.oid)
             AS server_options
      FROM pg_class AS c WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND {USER_RELATION}""",
        "columns": f"""
    SELECT c.oid::regclass::text || '.' || quote_ident(attname),
           CASE WHEN relispartition OR NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid)
                THEN row_number() OVER (PARTITION BY attrelid ORDER BY attnum) END AS position,
           format_type(atttypid, atttypmod) AS type, attnotnull, attidentity::text, attgenerated::text,
           attislocal, attinhcount, attstorage::text,
           {since(14, "attcompression::text", "''")} AS compression,
           coalesce(attstattarget, -1) AS statistics_target,
           (SELECT collname FROM pg_collation WHERE oid = attcollation) AS collation,
           pg_get_expr(adbin, adrelid) AS default_value,
           (SELECT array_agg(o ORDER BY o) FROM unnest(attoptions) AS o WHERE o !~ '^pg_attver=') AS options,
           {_sorted("attfdwoptions")} AS server_options,
           {_privileges("attacl")} AS privileges, col_description(attrelid, attnum) AS comment
      FROM pg_class AS c JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
      LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
     WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND {USER_RELATION}""",
        "constraints": f"""
    SELECT quote_ident(conname) || ' on ' || coalesce(c.oid::regclass::text, contypid::regtype::text),
           contype::text, convalidated, contype = 'c' AND connoinherit AS connoinherit, conislocal, coninhcount,
           pg_get_constraintdef(o.oid) AS sql, obj_description(o.oid, 'pg_constraint') AS comment
      FROM pg_constraint AS o LEFT JOIN pg_class AS c ON c.oid = conrelid
     WHERE contype <> 'n' AND NOT (contype = 'f' AND conparentid <> 0)
       AND (conrelid = 0 AND o.oid >= 16384 OR conrelid <> 0 AND {USER_RELATION})""",
        "indexes": f"""
    SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) AS sql, indisunique, indisprimary,
           indisvalid, indisclustered, indisreplident,
           (SELECT spcname FROM pg_tablespace AS s WHERE s.oid = x.reltablespace) AS tablespace,
           (SELECT array_agg(attnum || '=' || attstattarget ORDER BY attnum) FROM pg_attribute
             WHERE attrelid = x.oid AND attstattarget >= 0) AS statistics_targets,
           (SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = x.oid) AS parent,
           obj_description(x.oid, 'pg_class') AS comment
      FROM pg_index AS i JOIN pg_class AS c ON c.oid = indrelid JOIN pg_class AS x ON x.oid = indexrelid
     WHERE {USER_RELATION}""",
        "sequences": f"""
    SELECT c.oid::regclass::text, relpersistence::text, format_type(seqtypid, NULL) AS type, seqstart, seqincrement,
           seqmin, seqmax, seqcache, seqcycle,
           (SELECT refobjid::regclass::text || '.' || attname FROM pg_depend JOIN pg_attribute
                ON attrelid = refobjid AND attnum = refobjsubid
             WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype IN ('a', 'i')
               AND refclassid = 'pg_class'::regclass) AS owned_by
      FROM pg_class AS c JOIN pg_sequence ON seqrelid = c.oid WHERE {USER_RELATION}""",
        "functions": f"""
    SELECT i.identity, prokind::text, pg_get_function_result(o.oid) AS result,
           regexp_replace(pg_get_function_arguments(o.oid), '(^|, )IN ', '\\1', 'g') AS arguments,
           lanname, provolatile::text, proisstrict, prosecdef, proleakproof,
           proparallel::text, procost, prorows, proconfig, prosrc, probin,
           CASE prosupport WHEN 0 THEN NULL ELSE prosupport::regprocedure::text END AS support,
           {since(14, "pg_get_function_sqlbody(o.oid)", "NULL")} AS definition
      FROM pg_proc AS o JOIN pg_language AS l ON l.oid = prolang,
           pg_identify_object('pg_proc'::regclass, o.oid, 0) AS i
     WHERE o.oid >= 16384 AND {_not_of_extension("pg_proc", "o")} AND {NOT_BY_ITSELF.format("pg_proc")}""",
        "aggregates": f"""
    SELECT i.identity, aggkind::text, aggnumdirectargs, aggtransfn::regprocedure::text, aggfinalfn::regproc::text,
           aggcombinefn::regproc::text, aggserialfn::regproc::text, aggdeserialfn::regproc::text,
           aggmtransfn::regproc::text, aggminvtransfn::regproc::text, aggmfinalfn::regproc::text, aggfinalextra,
           aggmfinalextra, aggfinalmodify::text, aggmfinalmodify::text, aggsortop::regoperator::text,
           format_type(aggtranstype, NULL) AS state, aggtransspace, format_type(aggmtranstype, NULL) AS moving_state,
           aggmtransspace, agginitval, aggminitval
      FROM pg_aggregate AS a, pg_identify_object('pg_proc'::regclass, aggfnoid, 0) AS i
     WHERE aggfnoid >= 16384 AND {_not_of_extension("pg_proc", "a", "aggfnoid")}""",
        "types": f"""
    SELECT format_type(o.oid, NULL), typtype::text, typcategory::text, typispreferred, typdelim::text, typnotnull,
           typdefault, typalign::text, typstorage::text, typlen, typbyval,
           CASE typtype WHEN 'd' THEN format_type(typbasetype, typtypmod) END AS base_type,
           (SELECT collname FROM pg_collation AS c WHERE c.oid = typcollation) AS collation,
           CASE typtype WHEN 'b' THEN ARRAY[typinput::regproc::text, typoutput::regproc::text,
             typreceive::regproc::text, typsend::regproc::text, typmodin::regproc::text, typmodout::regproc::text,
             typanalyze::regproc::text, {since(14, "typsubscript::regproc::text", "'-'")}] END AS functions,
           (SELECT array_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = o.oid) AS labels,
           (SELECT ARRAY[format_type(rngsubtype, NULL), opcname, rngcanonical::regproc::text,
                         rngsubdiff::regproc::text, (SELECT collname FROM pg_collation AS c WHERE c.oid = rngcollation)]
              FROM pg_range JOIN pg_opclass AS c ON c.oid = rngsubopc WHERE rngtypid = o.oid) AS range
      FROM pg_type AS o WHERE o.oid >= 16384 AND {_not_of_extension("pg_type", "o")}
       AND {NOT_BY_ITSELF.format("pg_type")}""",
        "operators": f"""
    SELECT o.oid::regoperator::text, format_type(oprresult, NULL) AS result, oprcode::regprocedure::text,
           oprcom::regoperator::text, oprnegate::regoperator::text, oprrest::regproc::text, oprjoin::regproc::text,
           oprcanmerge, oprcanhash
      FROM pg_operator AS o WHERE o.oid >= 16384 AND {_not_of_extension("pg_operator", "o")}""",
        "operator classes": f"""
    SELECT i.identity, f.opfnamespace::regnamespace || '.' || f.opfname AS family, opcdefault,
           format_type(opcintype, NULL) AS type, CASE WHEN opckeytype <> 0 THEN format_type(opckeytype, NULL) END AS key
      FROM pg_opclass AS o JOIN pg_opfamily AS f ON f.oid = opcfamily,
           pg_identify_object('pg_opclass'::regclass, o.oid, 0) AS i
     WHERE o.oid >= 16384 AND {_not_of_extension("pg_opclass", "o")}""",
        "operators of families": f"""
    SELECT i.identity, amoppurpose::text, amopopr::regoperator::text, amopstrategy,
           (SELECT opfname FROM pg_opfamily AS f WHERE f.oid = amopsortfamily) AS sort_family
      FROM pg_amop AS o, pg_identify_object('pg_amop'::regclass, o.oid, 0) AS i
     WHERE o.oid >= 16384 AND {_not_of_extension("pg_opfamily", "o", "amopfamily")}""",
        "functions of families": f"""
    SELECT i.identity, amproc::regprocedure::text, amprocnum
      FROM pg_amproc AS o, pg_identify_object('pg_amproc'::regclass, o.oid, 0) AS i
     WHERE o.oid >= 16384 AND {_not_of_extension("pg_opfamily", "o", "amprocfamily")}""",
        "casts": f"""
    SELECT format_type(castsource, NULL) || ' as ' || format_type(casttarget, NULL), castcontext::text,
           castmethod::text, CASE WHEN castfunc <> 0 THEN castfunc::regprocedure::text END AS function
      FROM pg_cast AS o WHERE o.oid >= 16384 AND {_not_of_extension("pg_cast", "o")}
       AND {NOT_BY_ITSELF.format("pg_cast")}""",
        "conversions": f"""
    SELECT connamespace::regnamespace || '.' || conname, pg_encoding_to_char(conforencoding) AS source,
           pg_encoding_to_char(contoencoding) AS target, conproc::regproc::text, condefault
      FROM pg_conversion AS o WHERE o.oid >= 16384 AND {_not_of_extension("pg_conversion", "o")}""",
        "used": f"""
    SELECT pg_describe_object('pg_class'::regclass, c.oid, 0) || ' ' || pg_describe_object(d.classid, d.objid, 0)
           || ' uses ' || i.identity AS used, count(*)
      FROM pg_depend AS d
      LEFT JOIN pg_rewrite AS w ON d.classid = 'pg_rewrite'::regclass AND w.oid = objid
      LEFT JOIN pg_constraint AS k ON d.classid = 'pg_constraint'::regclass AND k.oid = objid
      LEFT JOIN pg_trigger AS t ON d.classid = 'pg_trigger'::regclass AND t.oid = objid
      LEFT JOIN pg_policy AS p ON d.classid = 'pg_policy'::regclass AND p.oid = objid
      LEFT JOIN pg_index AS x ON d.classid = 'pg_class'::regclass AND indexrelid = objid
      JOIN pg_class AS c ON c.oid = coalesce(ev_class, nullif(conrelid, 0), tgrelid, polrelid, indrelid),
           pg_identify_object(d.refclassid, d.refobjid, 0) AS i
     WHERE d.deptype = 'n' AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND {USER_RELATION}
     GROUP BY 1""",
        "collations": f"""
    SELECT collnamespace::regnamespace || '.' || quote_ident(collname), collprovider::text, collisdeterministic,
           coalesce({since(17, "colllocale", since(15, "colliculocale", "NULL"))}, collcollate) AS collate,
           coalesce({since(17, "colllocale", since(15, "colliculocale", "NULL"))}, collctype) AS ctype,
           {since(16, "collicurules", "NULL")} AS rules
      FROM pg_collation AS o WHERE o.oid >= 16384 AND {_not_of_extension("pg_collation", "o")}""",
        "text search dictionaries": f"""
    SELECT o.oid::regdictionary::text, tmplnamespace::regnamespace || '.' || tmplname AS template, dictinitoption
      FROM pg_ts_dict AS o JOIN pg_ts_template AS t ON t.oid = dicttemplate
     WHERE o.oid >= 16384 AND {_not_of_extension("pg_ts_dict", "o")}""",
        "text search configurations": f"""
    SELECT o.oid::regconfig::text, prsnamespace::regnamespace || '.' || prsname AS parser,
           (SELECT array_agg(maptokentype || ' ' || mapseqno || ' ' || mapdict::regdictionary ORDER BY maptokentype,
                             mapseqno) FROM pg_ts_config_map WHERE mapcfg = o.oid) AS mapping
      FROM pg_ts_config AS o JOIN pg_ts_parser AS p ON p.oid = cfgparser
     WHERE o.oid >= 16384 AND {_not_of_extension("pg_ts_config", "o")}""",
        "text search parsers": f"""
    SELECT prsnamespace::regnamespace || '.' || prsname, prsstart::regproc::text, prstoken::regproc::text,
           prsend::regproc::text, prsheadline::regproc::text, prslextype::regproc::text
      FROM pg_ts_parser AS o WHERE o.oid >= 16384 AND {_not_of_extension("pg_ts_parser", "o")}""",
        "text search templates": f"""
    SELECT tmplnamespace::regnamespace || '.' || tmplname, tmplinit::regproc::text, tmpllexize::regproc::text
      FROM pg_ts_template AS o WHERE o.oid >= 16384 AND {_not_of_extension("pg_ts_template", "o")}""",
        "languages": f"""
    SELECT lanname, lanpltrusted, lanplcallfoid::regproc::text, laninline::regproc::text, lanvalidator::regproc::text
      FROM pg_language AS o WHERE o.oid >= 16384 AND {_not_of_extension("pg_language", "o")}""",
        "transforms": f"""
    SELECT format_type(trftype, NULL) || ' for ' || lanname, trffromsql::regprocedure::text,
           trftosql::regprocedure::text FROM pg_transform AS o JOIN pg_language AS l ON l.oid = trflang
     WHERE o.oid >= 16384 AND {_not_of_extension("pg_transform", "o")}""",
        "access methods": f"""
    SELECT amname, amtype::text, amhandler::regproc::text
      FROM pg_am AS o WHERE o.oid >= 16384 AND {_not_of_extension("pg_am", "o")}""",
        "foreign-data wrappers": f"""
    SELECT fdwname, fdwhandler::regproc::text, fdwvalidator::regproc::text, {_sorted("fdwoptions")} AS options
      FROM pg_foreign_data_wrapper AS o WHERE {_not_of_extension("pg_foreign_data_wrapper", "o")}""",
        "foreign servers": f"""
    SELECT srvname, fdwname, srvtype, srvversion, {_sorted("srvoptions")} AS options
      FROM pg_foreign_server AS o JOIN pg_foreign_data_wrapper AS w ON w.oid = srvfdw
     WHERE {_not_of_extension("pg_foreign_server", "o")}""",
        "user mappings": f"""
    SELECT srvname || ' for ' || usename, {_sorted("umoptions")} AS options FROM pg_user_mappings""",
        "triggers": f"""
    SELECT quote_ident(tgname) || ' on ' || c.oid::regclass, tgenabled::text, pg_get_triggerdef(t.oid) AS sql
      FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = tgrelid
     WHERE NOT tgisinternal AND tgparentid = 0 AND {USER_RELATION}""",
        "triggers switched on partitions": f"""
    SELECT quote_ident(t.tgname) || ' on ' || c.oid::regclass, t.tgenabled::text
      FROM pg_trigger AS t JOIN pg_trigger AS p ON p.oid = t.tgparentid JOIN pg_class AS c ON c.oid = t.tgrelid
     WHERE t.tgenabled <> p.tgenabled AND {USER_RELATION}""",
        "rules": f"""
    SELECT quote_ident(rulename) || ' on ' || c.oid::regclass, ev_enabled::text, pg_get_ruledef(r.oid) AS definition
      FROM pg_rewrite AS r JOIN pg_class AS c ON c.oid = ev_class
     WHERE rulename <> '_RETURN' AND {USER_RELATION}""",
        "policies": f"""
    SELECT quote_ident(polname) || ' on ' || c.oid::regclass, polcmd::text, polpermissive,
           (SELECT array_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r) END ORDER BY
                             CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r) END) FROM unnest(polroles) AS r)
             AS roles, pg_get_expr(polqual, polrelid) AS using, pg_get_expr(polwithcheck, polrelid) AS with_check
      FROM pg_policy AS p JOIN pg_class AS c ON c.oid = polrelid WHERE {USER_RELATION}""",
        "event triggers": f"""
    SELECT evtname, evtevent, evtfoid::regprocedure::text, evtenabled::text, evttags
      FROM pg_event_trigger AS o WHERE {_not_of_extension("pg_event_trigger", "o")}""",
        "publications": f"""
    SELECT pubname, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot,
           (SELECT array_agg(prrelid::regclass::text || ' '
                   || coalesce({since(15, "pg_get_expr(prqual, prrelid)", "NULL")}, '') || ' '
                   || coalesce({since(15, "prattrs::text", "NULL")}, '') ORDER BY prrelid::regclass::text)
              FROM pg_publication_rel WHERE prpubid = p.oid) AS tables,
           {since(15, PUBLISHED_SCHEMAS, "NULL")} AS schemas,
           {since(18, "pubgencols::text", "'n'")} AS generated_columns
      FROM pg_publication AS p""",
        "subscriptions": """
    SELECT subname, subenabled, subslotname, subpublications FROM pg_subscription
     WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())""",
        "statistics objects": f"""
    SELECT stxnamespace::regnamespace || '.' || quote_ident(stxname), pg_get_statisticsobjdef(o.oid) AS sql,
           coalesce(stxstattarget, -1) AS target
      FROM pg_statistic_ext AS o WHERE {_not_of_extension("pg_statistic_ext", "o")}""",
        "default privileges": f"""
    SELECT pg_get_userbyid(defaclrole) || ' in ' || coalesce(nspname, '*') || ' on ' || defaclobjtype::text,
           {_privileges("defaclacl")} AS privileges
      FROM pg_default_acl LEFT JOIN pg_namespace AS n ON n.oid = defaclnamespace""",
        "extensions": """
    SELECT extname, extnamespace::regnamespace::text AS schema FROM pg_extension WHERE extname <> 'plpgsql'""",
        "privileges on system objects": f"""
    SELECT i.type || ' ' || i.identity, {_privileges("o.acl")} AS privileges
      FROM (SELECT 'pg_class'::regclass AS class, oid, relacl AS acl, relnamespace AS schema FROM pg_class
            UNION ALL SELECT 'pg_proc'::regclass, oid, proacl, pronamespace FROM pg_proc) AS o
      LEFT JOIN pg_init_privs AS p ON p.classoid = o.class AND p.objoid = o.oid AND p.objsubid = 0,
           pg_identify_object(o.class, o.oid, 0) AS i
     WHERE o.oid < 16384 AND o.schema = 'pg_catalog'::regnamespace AND o.acl IS DISTINCT FROM p.initprivs""",
    }


def _sorted(options: str) -> str:
    """An expression: the entries of an array whose order means nothing and is not kept by pg_dump."""
    return f"(SELECT array_agg(o ORDER BY o) FROM unnest({options}) AS o)"


def _not_of_extension(catalog: str, alias: str, column: str = "oid") -> str:
    return f"""NOT EXISTS (SELECT FROM pg_depend AS e WHERE e.classid = '{catalog}'::regclass
       AND e.objid = {alias}.{column} AND e.objsubid = 0 AND e.deptype = 'e')"""


# --- data ------------------------------------------------------------------------------------------------------------

LARGE_OBJECTS = "SELECT oid::text, md5(lo_get(oid)) AS digest FROM pg_largeobject_metadata"

EXTENSION_DATA = "SELECT unnest(extconfig) FROM pg_extension"

# The tables with rows of their own, and partitioned tables as a whole. Not the parts of hash partitioning: the hash
# of an enum depends on object identifiers, so the same rows may be in other parts after a restore.
WITH_ROWS = f"""
    SELECT c.oid, c.oid::regclass::text, relkind = 'r' FROM pg_class AS c
     WHERE (relkind IN ('r', 'm') OR relkind = 'p' AND NOT relispartition) AND relispopulated
       AND ({USER_RELATION} OR c.oid IN ({EXTENSION_DATA}))
       AND NOT EXISTS (SELECT FROM pg_partition_ancestors(c.oid) AS a JOIN pg_partitioned_table ON partrelid = a.relid
                        WHERE partstrat = 'h' AND a.relid <> c.oid)"""

VIEWS = f"SELECT c.oid, c.oid::regclass::text, false FROM pg_class AS c WHERE relkind = 'v' AND {USER_RELATION}"


def _rows(cursor: Any, query: str, may_fail: bool = False) -> dict[str, Any]:
    """Of every relation that the query names: the number of rows, and a digest of all of them in an order of their own.

    Tables of extensions count when the extension says that their rows belong to the user. A relation that cannot be
    read (a view over a function that fails) shows its SQLSTATE where it ``may_fail``.
    """
    cursor.execute(query)
    return {name: _digest(cursor, oid, name, only, may_fail) for oid, name, only in cursor.fetchall()}


def _digest(cursor: Any, oid: int, relation: str, only: bool, may_fail: bool) -> Any:
    text = f"ROW({_columns_by_name(cursor, oid)})::text"
    cursor.execute("SELECT current_setting('server_encoding')")
    if cursor.fetchone()[0] != "SQL_ASCII":
        text = f"convert_to({text}, 'UTF8')"  # databases of different encodings may hold the same text
    try:
        cursor.execute(
            f"""SELECT count(*), md5(coalesce(string_agg(digest, '' ORDER BY digest COLLATE "C"), ''))
                  FROM (SELECT md5({text}) AS digest FROM {"ONLY" if only else ""} {relation} AS t) AS digests"""
        )
    except psycopg2.Error as error:
        if not may_fail:
            raise
        return {"sqlstate": error.pgcode}
    count, digest = cursor.fetchone()
    return {"rows": count, "digest": digest}


def _columns_by_name(cursor: Any, oid: int) -> str:
    """A child table may have its columns in another order after a restore."""
    cursor.execute(
        """SELECT coalesce(string_agg('t.' || quote_ident(attname), ', ' ORDER BY attname COLLATE "C"), '')
             FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped""",
        [oid],
    )
    return cursor.fetchone()[0]


def _positions(cursor: Any) -> dict[str, Any]:
    cursor.execute(f"SELECT c.oid::regclass::text FROM pg_class AS c WHERE relkind = 'S' AND {USER_RELATION}")
    found = {}
    for (name,) in cursor.fetchall():
        cursor.execute(f"SELECT last_value, is_called FROM {name}")
        found[name] = dict(zip(("last_value", "is_called"), cursor.fetchone()))
    return found


# --- roles -----------------------------------------------------------------------------------------------------------


def roles(connection: Any, chosen: Callable[[str], bool] = lambda name: True) -> Contents:
    """The roles of the server, but for predefined ones and the bootstrap superuser, with secrets and memberships.

    Before 16, whether a member inherits is an attribute of the member, and every member may ``SET ROLE``.
    """
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(SESSION)
        recorded = connection.server_version >= 160000
        found = {"roles": _asked(cursor, ROLES), "memberships": _asked(cursor, _memberships(recorded))}
    return {
        "roles": {name: value for name, value in found["roles"].items() if chosen(name)},
        "memberships": {name: value for name, value in found["memberships"].items() if chosen(value["member"])},
    }


ROLES = """
    SELECT a.rolname::text, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
           rolconnlimit, rolvaliduntil::text, rolpassword AS secret, shobj_description(a.oid, 'pg_authid') AS comment,
           (SELECT array_agg(coalesce(datname, '') || ': ' || s ORDER BY coalesce(datname, '') || ': ' || s)
              FROM pg_db_role_setting LEFT JOIN pg_database AS d ON d.oid = setdatabase, unnest(setconfig) AS s
             WHERE setrole = a.oid) AS settings
      FROM pg_authid AS a WHERE a.oid >= 16384"""


def _memberships(recorded: bool) -> str:
    options = (
        "bool_or(inherit_option) AS inherit, bool_or(set_option) AS set"
        if recorded
        else ("bool_or(m.rolinherit) AS inherit, true AS set")
    )
    return f"""
    SELECT quote_ident(m.rolname) || ' in ' || quote_ident(g.rolname), m.rolname::text AS member,
           g.rolname::text AS role, bool_or(admin_option) AS admin, {options}
      FROM pg_auth_members JOIN pg_authid AS m ON m.oid = member JOIN pg_authid AS g ON g.oid = roleid
     WHERE m.oid >= 16384 GROUP BY m.rolname, g.rolname"""
