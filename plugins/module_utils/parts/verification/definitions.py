# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Queries for what relations are: tables and what hangs on them, views, sequences, types."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import MARK
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.spelling import (
    COLUMN_OPTIONS,
    Majors,
)

# Schemas that are not the user's: the server's, temporary ones, ours.
OTHER_SCHEMAS = f"""
    (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_' OR nspname = 'information_schema'
     OR starts_with(coalesce(obj_description(oid, 'pg_namespace'), ''), '{MARK}'))"""


# What came along with another object: array types, the multirange of a range and its functions.
NOT_BY_ITSELF = """NOT EXISTS (SELECT FROM pg_depend AS i WHERE i.classid = '{}'::regclass AND i.objid = o.oid
    AND i.objsubid = 0 AND i.deptype = 'i')"""


def not_of_extension(catalog: str, column: str) -> str:
    """SQL: the object is no member of an extension."""
    return f"""NOT EXISTS (SELECT FROM pg_depend AS e WHERE e.classid = '{catalog}'::regclass AND e.objid = {column}
        AND e.objsubid = 0 AND e.deptype = 'e')"""


OWN_RELATION = f"c.relnamespace NOT IN {OTHER_SCHEMAS} AND {not_of_extension('pg_class', 'c.oid')}"
NAME = "format('%I.%I', (SELECT nspname FROM pg_namespace WHERE oid = c.relnamespace), c.relname)"


# Which functions and operators of users and extensions a definition comes to, which its words need not show: a restore
# finds = of text where the source found that of citext, and CASE and NULLIF are written in the same words as before.
# Before 15, what a generated column uses is recorded for the column, not for its expression, and stays there when the
# column is none any more.
USES = f"""
    SELECT CASE WHEN d.objsubid > 0 THEN 'default value for' ELSE i.type END || ' ' || i.identity,
           array_agg(DISTINCT r.identity COLLATE "C") AS functions_and_operators
    FROM (SELECT d.*, CASE classid
            WHEN 'pg_rewrite'::regclass THEN (SELECT ev_class FROM pg_rewrite WHERE oid = objid)
            WHEN 'pg_constraint'::regclass THEN (SELECT nullif(conrelid, 0) FROM pg_constraint WHERE oid = objid)
            WHEN 'pg_trigger'::regclass THEN (SELECT tgrelid FROM pg_trigger WHERE oid = objid AND tgfoid <> refobjid)
            WHEN 'pg_policy'::regclass THEN (SELECT polrelid FROM pg_policy WHERE oid = objid)
            WHEN 'pg_attrdef'::regclass THEN (SELECT adrelid FROM pg_attrdef WHERE oid = objid)
            ELSE coalesce((SELECT indrelid FROM pg_index WHERE indexrelid = objid), objid) END AS relation
          FROM pg_depend AS d
          WHERE (deptype = 'n' OR deptype = 'a' AND classid = 'pg_class'::regclass AND EXISTS (
              SELECT FROM pg_attribute WHERE attrelid = objid AND attnum = objsubid AND attgenerated <> ''))
          AND refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass)
          AND objid >= 16384 AND classid IN ('pg_rewrite'::regclass, 'pg_constraint'::regclass, 'pg_trigger'::regclass,
            'pg_policy'::regclass, 'pg_attrdef'::regclass, 'pg_class'::regclass)) AS d
    LEFT JOIN pg_class AS c ON c.oid = relation,
         pg_identify_object(d.classid, d.objid, d.objsubid) AS i, pg_identify_object(d.refclassid, d.refobjid, 0) AS r
    WHERE (c.oid IS NOT NULL AND c.relnamespace NOT IN {OTHER_SCHEMAS} AND {not_of_extension("pg_class", "c.oid")}
           OR d.classid = 'pg_constraint'::regclass AND relation IS NULL
           AND {not_of_extension("pg_constraint", "d.objid")})
    GROUP BY 1"""


def ordered(array: str) -> str:
    """SQL: the entries of an array whose order means nothing."""
    return f"(SELECT array_agg(o ORDER BY o) FROM unnest({array}) AS o)"


def queries(majors: Majors) -> dict[str, str]:
    """Class -> query."""
    return {**_relations(majors), **_of_tables(majors), **_types(majors), "uses": USES}


RULE = "(SELECT oid FROM pg_rewrite WHERE ev_class = c.oid AND rulename = '_RETURN')"


# Of the triggers that enforce each constraint, those for partitions too: pg_trigger.tgenabled. All of them at once, as
# servers look through all triggers for each constraint that is asked about.
ENFORCED = """
    (WITH RECURSIVE tree AS (
        SELECT oid AS root, oid FROM pg_constraint WHERE NOT (contype = 'f' AND conparentid <> 0)
        UNION ALL SELECT tree.root, p.oid FROM pg_constraint AS p JOIN tree ON p.conparentid = tree.oid)
     SELECT root, array_agg(DISTINCT tgenabled::text ORDER BY tgenabled::text) AS enforced
     FROM pg_trigger JOIN tree ON tgconstraint = tree.oid WHERE tgisinternal GROUP BY root)"""


def _relations(majors: Majors) -> dict[str, str]:
    relations = f"""
        SELECT {NAME}, relkind::text AS kind, relpersistence::text AS persistence,
               relrowsecurity AS row_security, relforcerowsecurity AS force_row_security,
               {ordered("reloptions")} AS options, relreplident::text AS replica_identity,
               (SELECT {ordered("t.reloptions")} FROM pg_class AS t WHERE t.oid = c.reltoastrelid) AS toast_options,
               (SELECT amname FROM pg_am WHERE pg_am.oid = relam) AS access_method,
               CASE relkind WHEN 'p' THEN pg_get_partkeydef(c.oid) END AS partition_key,
               pg_get_expr(relpartbound, c.oid) AS partition_bound,
               (SELECT array_agg(inhparent::regclass::text ORDER BY inhseqno) FROM pg_inherits WHERE inhrelid = c.oid)
                   AS parents,
               CASE WHEN reloftype <> 0 THEN format_type(reloftype, NULL) END AS of_type,
               CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END AS definition,
               CASE WHEN relkind IN ('v', 'm') THEN {majors.reads("pg_rewrite", RULE, "c.oid")} END AS reads,
               relkind <> 'm' OR relispopulated AS populated,
               (SELECT srvname FROM pg_foreign_table JOIN pg_foreign_server AS s ON s.oid = ftserver
                WHERE ftrelid = c.oid) AS server,
               (SELECT {ordered("ftoptions")} FROM pg_foreign_table WHERE ftrelid = c.oid) AS server_options
        FROM pg_class AS c WHERE relkind IN (%s) AND {OWN_RELATION}"""
    return {
        "schemas": f"SELECT nspname FROM pg_namespace WHERE oid NOT IN {OTHER_SCHEMAS}"
        f" AND {not_of_extension('pg_namespace', 'pg_namespace.oid')}",
        "tables": relations.replace("%s", "'r', 'p'"),
        "views": relations.replace("%s", "'v', 'm'"),
        "foreign_tables": relations.replace("%s", "'f'"),
        "sequence_definitions": f"""
        SELECT {NAME}, relpersistence::text AS persistence, format_type(seqtypid, NULL) AS type, seqstart, seqincrement,
               seqmin, seqmax, seqcache, seqcycle,
               (SELECT refobjid::regclass::text || '.' || quote_ident(attname) FROM pg_depend JOIN pg_attribute
                    ON attrelid = refobjid AND attnum = refobjsubid
                WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype IN ('a', 'i')
                AND refclassid = 'pg_class'::regclass) AS owned_by
        FROM pg_class AS c JOIN pg_sequence ON seqrelid = c.oid WHERE {OWN_RELATION}""",
    }


def _of_tables(majors: Majors) -> dict[str, str]:
    not_null = "" if majors.both(18) else " AND contype <> 'n'"
    # Before 17, an identity column of a partitioned table is none of its partitions (release notes of PostgreSQL 17).
    has_identity = "true" if majors.both(17) else "NOT relispartition"
    return {
        "columns": f"""
        SELECT {NAME} || '.' || quote_ident(attname), format_type(atttypid, atttypmod) AS type, attnotnull AS not_null,
               CASE WHEN {has_identity} THEN attidentity::text END AS identity, attgenerated::text AS generated,
               pg_get_expr(adbin, adrelid) AS default,
               {majors.reads("pg_attrdef", "pg_attrdef.oid")} AS reads,
               nullif(attcollation, 0)::regcollation::text AS collation,
               attislocal AS local, attinhcount AS inherited, attstorage::text AS storage,
               {majors.since(14, "attcompression::text", "''")} AS compression,
               coalesce(attstattarget, -1) AS statistics_target, {COLUMN_OPTIONS} AS options,
               {ordered("attfdwoptions")} AS server_options,
               CASE WHEN relispartition OR NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid)
                    THEN row_number() OVER (PARTITION BY attrelid ORDER BY attnum) END AS position
        FROM pg_class AS c JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND {OWN_RELATION}""",
        "constraints": f"""
        SELECT quote_ident(conname) || ' on ' || CASE WHEN conrelid <> 0 THEN {NAME} ELSE contypid::regtype::text END,
               pg_get_constraintdef(o.oid) AS sql, convalidated AS validated, conislocal AS local,
               coninhcount AS inherited, contype = 'c' AND connoinherit AS no_inherit, enforced,
               {majors.reads("pg_constraint", "o.oid")} AS reads
        FROM pg_constraint AS o LEFT JOIN pg_class AS c ON c.oid = conrelid LEFT JOIN {ENFORCED} AS e ON root = o.oid
        WHERE NOT (contype = 'f' AND conparentid <> 0){not_null}
        AND (conrelid = 0 AND o.oid >= 16384 AND o.connamespace NOT IN {OTHER_SCHEMAS}
             AND {not_of_extension("pg_type", "o.contypid")} OR conrelid <> 0 AND {OWN_RELATION})""",
        "indexes": f"""
        SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) AS sql,
               {majors.reads("pg_class", "x.oid")} AS reads, indisvalid AS valid,
               indisready AND indislive AS ready, indisunique AS unique, indisprimary AS primary,
               indisclustered AS clustered, indisreplident AS replica_identity,
               (SELECT array_agg(attnum || '=' || attstattarget ORDER BY attnum) FROM pg_attribute
                WHERE attrelid = x.oid AND attstattarget >= 0) AS statistics_targets,
               (SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = x.oid) AS parent
        FROM pg_index AS i JOIN pg_class AS c ON c.oid = indrelid JOIN pg_class AS x ON x.oid = indexrelid
        WHERE {OWN_RELATION}""",
        "triggers": f"""
        SELECT quote_ident(t.tgname) || ' on ' || {NAME}, t.tgenabled::text AS enabled,
               pg_get_triggerdef(t.oid) AS sql, {majors.reads("pg_trigger", "t.oid")} AS reads
        FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = tgrelid
        WHERE (NOT tgisinternal OR tgparentid <> 0 AND tgconstraint = 0)
        AND tgname !~ '^handover_' AND {OWN_RELATION}""",
        "rules": f"""
        SELECT quote_ident(rulename) || ' on ' || {NAME}, ev_enabled::text AS enabled,
               pg_get_ruledef(r.oid) AS definition, {majors.reads("pg_rewrite", "r.oid", "c.oid")} AS reads
        FROM pg_rewrite AS r JOIN pg_class AS c ON c.oid = ev_class WHERE rulename <> '_RETURN' AND {OWN_RELATION}""",
        "policies": f"""
        SELECT quote_ident(polname) || ' on ' || {NAME}, polcmd::text AS command, polpermissive AS permissive,
               (SELECT array_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r) END ORDER BY
                                 CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r) END) FROM unnest(polroles) AS r)
                   AS roles, pg_get_expr(polqual, polrelid) AS using, pg_get_expr(polwithcheck, polrelid) AS with_check,
               {majors.reads("pg_policy", "p.oid")} AS reads
        FROM pg_policy AS p JOIN pg_class AS c ON c.oid = polrelid WHERE {OWN_RELATION}""",
        "statistics_objects": f"""
        SELECT stxnamespace::regnamespace || '.' || quote_ident(stxname), pg_get_statisticsobjdef(o.oid) AS sql,
               {majors.reads("pg_statistic_ext", "o.oid")} AS reads,
               coalesce(stxstattarget, -1) AS target
        FROM pg_statistic_ext AS o WHERE {not_of_extension("pg_statistic_ext", "o.oid")}
        AND stxnamespace NOT IN {OTHER_SCHEMAS}""",
    }


def _types(majors: Majors) -> dict[str, str]:
    return {
        "types": f"""
        SELECT format_type(o.oid, NULL), typtype::text AS type, typcategory::text AS category,
               typispreferred AS preferred, typdelim::text AS delimiter, typnotnull AS not_null, typdefault AS default,
               typalign::text AS alignment, typstorage::text AS storage, typlen AS length, typbyval AS by_value,
               CASE typtype WHEN 'd' THEN format_type(typbasetype, typtypmod) END AS base_type,
               nullif(typcollation, 0)::regcollation::text AS collation,
               CASE typtype WHEN 'b' THEN ARRAY[typinput::regproc::text, typoutput::regproc::text,
                 typreceive::regproc::text, typsend::regproc::text, typmodin::regproc::text, typmodout::regproc::text,
                 typanalyze::regproc::text, {majors.since(14, "typsubscript::regproc::text", "'-'")}] END AS functions,
               (SELECT array_agg(enumlabel::text ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = o.oid)
                   AS labels,
               (SELECT ARRAY[format_type(rngsubtype, NULL), opcname::text, rngcanonical::regproc::text,
                             rngsubdiff::regproc::text,
                             nullif(rngcollation, 0)::regcollation::text]
                FROM pg_range JOIN pg_opclass AS c ON c.oid = rngsubopc WHERE rngtypid = o.oid) AS range
        FROM pg_type AS o WHERE o.oid >= 16384 AND {not_of_extension("pg_type", "o.oid")}
        AND o.typnamespace NOT IN {OTHER_SCHEMAS} AND NOT EXISTS (
            SELECT FROM pg_depend AS i WHERE i.classid = 'pg_type'::regclass AND i.objid = o.oid AND i.objsubid = 0
            AND i.deptype = 'i')""",
        "collations": f"""
        SELECT collnamespace::regnamespace || '.' || quote_ident(collname), collprovider::text AS provider,
               collisdeterministic AS deterministic,
               coalesce({majors.since(17, "colllocale", majors.since(15, "colliculocale", "NULL"))}, collcollate)
                   AS collate,
               coalesce({majors.since(17, "colllocale", majors.since(15, "colliculocale", "NULL"))}, collctype)
                   AS ctype, {majors.since(16, "collicurules", "NULL")} AS rules
        FROM pg_collation AS o WHERE o.oid >= 16384 AND {not_of_extension("pg_collation", "o.oid")}
        AND collnamespace NOT IN {OTHER_SCHEMAS}""",
    }
