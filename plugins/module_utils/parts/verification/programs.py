# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Queries for what runs or helps to run: functions, operators, text search, foreign servers, and more."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.facts.not_dumped import (
    ADDED_FUNCTIONS,
    ADDED_OPERATORS,
    CHANGED_CONFIGURATION,
    IN_SYSTEM_SCHEMAS,
    SHELL_OPERATORS,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.definitions import (
    NOT_BY_ITSELF,
    OTHER_SCHEMAS,
    not_of_extension,
    ordered,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.spelling import Majors

ADDED = (
    "no dump holds what was added to a family of the server or of an extension; add it on the target, too, with "
    "ALTER OPERATOR FAMILY"
)
CHANGED = (
    "no dump holds changes of a configuration of the server; change it on the target, too, with "
    "ALTER TEXT SEARCH CONFIGURATION"
)

OURS = "'^handover_[0-9a-f]{10}_'"  # names of publications and subscriptions of a migration

AGGREGATE_FUNCTIONS = (
    "aggfinalfn",
    "aggcombinefn",
    "aggserialfn",
    "aggdeserialfn",
    "aggmtransfn",
    "aggminvtransfn",
    "aggmfinalfn",
)


def own(catalog: str, schema: str | None = None, column: str = "o.oid") -> str:
    """SQL: the object is the user's, not the server's, an extension's or ours."""
    condition = f"{column} >= 16384 AND {not_of_extension(catalog, column)}"
    return f"{condition} AND {schema} NOT IN {OTHER_SCHEMAS}" if schema else condition


def queries(majors: Majors) -> dict[str, str]:
    """Class -> query."""
    return {**_functions(majors), **_operators(), **_text_search(), **_servers(), **_replication(majors)}


def _functions(majors: Majors) -> dict[str, str]:
    return {
        "functions": f"""
        SELECT i.identity, prokind::text AS kind, pg_get_function_result(o.oid) AS result,
               pg_get_function_arguments(o.oid) AS arguments, lanname AS language,
               provolatile::text AS volatility, proisstrict AS strict, prosecdef AS security_definer,
               proleakproof AS leakproof, proparallel::text AS parallel, procost AS cost, prorows AS rows,
               {ordered("proconfig")} AS settings, prosrc AS source, probin AS library,
               CASE prosupport WHEN 0 THEN NULL ELSE prosupport::regprocedure::text END AS support,
               {majors.since(14, "pg_get_function_sqlbody(o.oid)", "NULL")} AS body,
               {majors.reads("pg_proc", "o.oid")} AS reads
        FROM pg_proc AS o JOIN pg_language AS l ON l.oid = prolang,
             pg_identify_object('pg_proc'::regclass, o.oid, 0) AS i
        WHERE {own("pg_proc", "pronamespace")} AND {NOT_BY_ITSELF.format("pg_proc")}""",
        "aggregates": f"""
        SELECT i.identity, aggkind::text, aggnumdirectargs, aggtransfn::regprocedure::text,
               {", ".join(f"{name}::regproc::text" for name in AGGREGATE_FUNCTIONS)}, aggfinalextra, aggmfinalextra,
               aggfinalmodify::text, aggmfinalmodify::text, aggsortop::regoperator::text,
               format_type(aggtranstype, NULL) AS state, aggtransspace,
               format_type(aggmtranstype, NULL) AS moving_state, aggmtransspace, agginitval, aggminitval
        FROM pg_aggregate AS a JOIN pg_proc AS o ON o.oid = aggfnoid,
             pg_identify_object('pg_proc'::regclass, aggfnoid, 0) AS i WHERE {own("pg_proc", "o.pronamespace")}""",
        "languages": f"""
        SELECT lanname, lanpltrusted, lanplcallfoid::regproc::text, laninline::regproc::text,
               lanvalidator::regproc::text FROM pg_language AS o WHERE {own("pg_language")}""",
        "event_triggers": f"""
        SELECT evtname, evtevent AS event, evtfoid::regprocedure::text AS function, evtenabled::text AS enabled,
               {ordered("evttags")} AS tags FROM pg_event_trigger AS o WHERE {own("pg_event_trigger")}
        AND evtname !~ '^handover_'""",
        "extensions": """
        SELECT extname, extnamespace::regnamespace::text AS schema FROM pg_extension WHERE extname <> 'plpgsql'""",
    }


def _operators() -> dict[str, str]:
    return {
        "operators": f"""
        SELECT o.oid::regoperator::text, format_type(oprresult, NULL) AS result, oprcode::regprocedure::text AS code,
               oprcom::regoperator::text AS commutator, oprnegate::regoperator::text AS negator,
               oprrest::regproc::text AS restrict, oprjoin::regproc::text AS join, oprcanmerge, oprcanhash
        FROM pg_operator AS o WHERE {own("pg_operator", "oprnamespace")} AND oprcode <> 0""",
        "operator_classes": f"""
        SELECT i.identity, f.opfnamespace::regnamespace || '.' || f.opfname AS family, opcdefault,
               format_type(opcintype, NULL) AS type,
               CASE WHEN opckeytype <> 0 THEN format_type(opckeytype, NULL) END AS key
        FROM pg_opclass AS o JOIN pg_opfamily AS f ON f.oid = opcfamily,
             pg_identify_object('pg_opclass'::regclass, o.oid, 0) AS i WHERE {own("pg_opclass", "opcnamespace")}""",
        "operators_of_families": f"""
        SELECT i.identity, amoppurpose::text, amopopr::regoperator::text, amopstrategy,
               (SELECT opfname FROM pg_opfamily AS f WHERE f.oid = amopsortfamily) AS sort_family,
               CASE WHEN {ADDED_OPERATORS} THEN '{ADDED}' END AS not_dumped
        FROM pg_amop AS o, pg_identify_object('pg_amop'::regclass, o.oid, 0) AS i
        WHERE o.oid >= 16384 AND ({not_of_extension("pg_opfamily", "amopfamily")} OR {ADDED_OPERATORS})""",
        "functions_of_families": f"""
        SELECT i.identity, amproc::regprocedure::text, amprocnum, CASE WHEN {ADDED_FUNCTIONS} THEN '{ADDED}' END
                   AS not_dumped
        FROM pg_amproc AS o, pg_identify_object('pg_amproc'::regclass, o.oid, 0) AS i
        WHERE o.oid >= 16384 AND ({not_of_extension("pg_opfamily", "amprocfamily")} OR {ADDED_FUNCTIONS})""",
        "shell_operators": SHELL_OPERATORS,
        "in_system_schemas": IN_SYSTEM_SCHEMAS,
        "casts": f"""
        SELECT format_type(castsource, NULL) || ' as ' || format_type(casttarget, NULL), castcontext::text AS context,
               castmethod::text AS method, CASE WHEN castfunc <> 0 THEN castfunc::regprocedure::text END AS function
        FROM pg_cast AS o WHERE {own("pg_cast")} AND {NOT_BY_ITSELF.format("pg_cast")}""",
        "conversions": f"""
        SELECT connamespace::regnamespace || '.' || quote_ident(conname), pg_encoding_to_char(conforencoding) AS source,
               pg_encoding_to_char(contoencoding) AS target, conproc::regproc::text AS function, condefault
        FROM pg_conversion AS o WHERE {own("pg_conversion", "connamespace")}""",
        "access_methods": f"""
        SELECT amname, amtype::text, amhandler::regproc::text FROM pg_am AS o WHERE {own("pg_am")}""",
        "transforms": f"""
        SELECT format_type(trftype, NULL) || ' for ' || lanname, trffromsql::regprocedure::text,
               trftosql::regprocedure::text FROM pg_transform AS o JOIN pg_language AS l ON l.oid = trflang
        WHERE {own("pg_transform")}""",
    }


def _text_search() -> dict[str, str]:
    return {
        "text_search_dictionaries": f"""
        SELECT o.oid::regdictionary::text, tmplnamespace::regnamespace || '.' || tmplname AS template, dictinitoption
        FROM pg_ts_dict AS o JOIN pg_ts_template AS t ON t.oid = dicttemplate
        WHERE {own("pg_ts_dict", "dictnamespace")}""",
        "text_search_configurations": f"""
        SELECT o.oid::regconfig::text, prsnamespace::regnamespace || '.' || prsname AS parser,
               (SELECT array_agg(maptokentype || ' ' || mapseqno || ' ' || mapdict::regdictionary ORDER BY
                                 maptokentype, mapseqno) FROM pg_ts_config_map WHERE mapcfg = o.oid) AS mapping,
               CASE WHEN {CHANGED_CONFIGURATION} THEN '{CHANGED}' END AS not_dumped
        FROM pg_ts_config AS o JOIN pg_ts_parser AS p ON p.oid = cfgparser
        WHERE {own("pg_ts_config", "cfgnamespace")} OR {CHANGED_CONFIGURATION}""",
        "text_search_parsers": f"""
        SELECT prsnamespace::regnamespace || '.' || prsname, prsstart::regproc::text, prstoken::regproc::text,
               prsend::regproc::text, prsheadline::regproc::text, prslextype::regproc::text
        FROM pg_ts_parser AS o WHERE {own("pg_ts_parser", "prsnamespace")}""",
        "text_search_templates": f"""
        SELECT tmplnamespace::regnamespace || '.' || tmplname, tmplinit::regproc::text, tmpllexize::regproc::text
        FROM pg_ts_template AS o WHERE {own("pg_ts_template", "tmplnamespace")}""",
    }


def _servers() -> dict[str, str]:
    return {
        "foreign_data_wrappers": f"""
        SELECT fdwname, fdwhandler::regproc::text AS handler, fdwvalidator::regproc::text AS validator,
               {ordered("fdwoptions")} AS options
        FROM pg_foreign_data_wrapper AS o WHERE {own("pg_foreign_data_wrapper")}""",
        "foreign_servers": f"""
        SELECT srvname, fdwname AS wrapper, srvtype AS type, srvversion AS version, {ordered("srvoptions")} AS options
        FROM pg_foreign_server AS o JOIN pg_foreign_data_wrapper AS w ON w.oid = srvfdw
        WHERE {own("pg_foreign_server")}""",
        # Options are hidden (NULL) from those who may not see them; a mapping without any looks the same.
        "user_mappings": f"""
        SELECT srvname || ' for ' || usename, coalesce({ordered("umoptions")}::text, CASE WHEN
               (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN '' ELSE '(hidden)' END) AS options
        FROM pg_user_mappings""",
    }


def _replication(majors: Majors) -> dict[str, str]:
    schemas = """(SELECT array_agg(nspname::text ORDER BY nspname) FROM pg_publication_namespace
        JOIN pg_namespace AS n ON n.oid = pnnspid WHERE pnpubid = p.oid)"""
    columns = "(SELECT array_agg(attname::text ORDER BY attname) FROM pg_attribute WHERE attrelid = prrelid AND attnum"
    return {
        "publications": f"""
        SELECT pubname, puballtables, {majors.since(19, "puballsequences", "false")} AS all_sequences, pubinsert,
               pubupdate, pubdelete, pubtruncate, pubviaroot,
               (SELECT array_agg(concat_ws(' ', prrelid::regclass,
                       {majors.since(15, "pg_get_expr(prqual, prrelid)", "NULL")},
                       {majors.since(15, f"{columns} = ANY (prattrs::smallint[]))", "NULL")})
                   ORDER BY prrelid::regclass::text) FROM pg_publication_rel WHERE prpubid = p.oid) AS tables,
               {majors.since(15, schemas, "NULL")} AS schemas,
               {majors.since(18, "pubgencols::text", "'n'")} AS generated_columns
        FROM pg_publication AS p WHERE pubname !~ {OURS}""",
        "subscriptions": f"""
        SELECT subname FROM pg_subscription WHERE subname !~ {OURS}
        AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())""",
    }
