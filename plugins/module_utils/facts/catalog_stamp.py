# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether anything that pg_dump would say of a database's schema may have changed in between, in one question.

A row of a catalog that is written to gets a later transaction's number: of as many rows, the numbers' sum only grows.
What is ours, temporary or TOAST is no part of it, nor are publications and subscriptions.
"""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import value

# Of what the column names, rows count that are no part of a schema that does not count. Catalogs that only a superuser
# may read (PostgreSQL documentation, 53) hold nothing that a schema consists of.
OF_TABLES = {
    "pg_attrdef": "adrelid", "pg_attribute": "attrelid", "pg_class": "oid", "pg_foreign_table": "ftrelid",
    "pg_index": "indrelid", "pg_inherits": "inhrelid", "pg_partitioned_table": "partrelid", "pg_policy": "polrelid",
    "pg_rewrite": "ev_class", "pg_sequence": "seqrelid", "pg_statistic_ext": "stxrelid", "pg_trigger": "tgrelid",
}  # fmt: skip
OF_SCHEMAS = {
    "pg_collation": "collnamespace", "pg_constraint": "connamespace", "pg_conversion": "connamespace",
    "pg_namespace": "oid", "pg_opclass": "opcnamespace", "pg_operator": "oprnamespace", "pg_opfamily": "opfnamespace",
    "pg_proc": "pronamespace", "pg_ts_config": "cfgnamespace", "pg_ts_dict": "dictnamespace",
    "pg_ts_parser": "prsnamespace", "pg_ts_template": "tmplnamespace", "pg_type": "typnamespace",
}  # fmt: skip
OF_TYPES = {"pg_enum": "enumtypid", "pg_range": "rngtypid"}
WHOLE = (
    "pg_aggregate", "pg_am", "pg_amop", "pg_amproc", "pg_cast", "pg_default_acl", "pg_event_trigger", "pg_extension",
    "pg_foreign_data_wrapper", "pg_foreign_server", "pg_init_privs", "pg_language", "pg_transform", "pg_ts_config_map",
)  # fmt: skip
OBJECTS = {
    "pg_depend": ("classid", "objid", "refclassid", "refobjid"), "pg_description": ("classoid", "objoid"),
    "pg_seclabel": ("classoid", "objoid"),
}  # fmt: skip
OF_DATABASE = {"pg_database": "oid", "pg_db_role_setting": "setdatabase", "pg_shdescription": "objoid"}
COUNT = "SELECT '{0}' AS name, count(*) AS amount, sum(xmin::text::bigint)::text AS signs FROM {0}"
OURS = " OR ".join(
    f"{{0}} = '{catalog}'::regclass AND {{1}} IN (SELECT oid FROM {others})"
    for catalog, others in (("pg_class", "others"), ("pg_namespace", "schemas"), ("pg_type", "types"))
)
NO_SCHEMA = "{0} IN ('pg_publication'::regclass, 'pg_publication_rel'::regclass, 'pg_subscription'::regclass)"


def _of_objects(name: str, columns: tuple[str, ...]) -> str:
    """Rows that are about an object, or about two."""
    pairs = zip(columns[::2], columns[1::2])
    left = [f"({OURS.format(*pair)} OR {NO_SCHEMA.format(pair[0])})" for pair in pairs]
    return f"{COUNT.format(name)} WHERE NOT ({' OR '.join(left)})"


AMOUNTS = " UNION ALL ".join([
    *(f"{COUNT.format(name)} WHERE {oid} NOT IN (SELECT oid FROM others)" for name, oid in OF_TABLES.items()),
    *(f"{COUNT.format(name)} WHERE {oid} NOT IN (SELECT oid FROM schemas)" for name, oid in OF_SCHEMAS.items()),
    *(f"{COUNT.format(name)} WHERE {oid} NOT IN (SELECT oid FROM types)" for name, oid in OF_TYPES.items()),
    *map(COUNT.format, WHOLE),
    *(_of_objects(name, columns) for name, columns in OBJECTS.items()),
    *(
        f"{COUNT.format(name)} WHERE {oid} = (SELECT oid FROM pg_database WHERE datname = current_database())"
        for name, oid in OF_DATABASE.items()
    ),
    "SELECT 'roles', count(*), md5(string_agg(oid::text || rolname, ',' ORDER BY oid)) FROM pg_roles",
    "SELECT 'mappings', count(*), md5(string_agg(m::text, ',' ORDER BY umid)) FROM pg_user_mappings AS m",
])  # fmt: skip
STAMP = f"""
    WITH schemas AS MATERIALIZED (
        SELECT oid FROM pg_namespace WHERE nspname = 'handover' OR nspname ~ '^pg_(toast|temp)'),
    others AS MATERIALIZED (SELECT oid FROM pg_class WHERE relnamespace IN (SELECT oid FROM schemas)),
    types AS MATERIALIZED (SELECT oid FROM pg_type WHERE typnamespace IN (SELECT oid FROM schemas))
    SELECT md5(string_agg(concat_ws(' ', name, amount, signs), ',' ORDER BY name)) AS stamp
    FROM ({AMOUNTS}) AS catalog"""


def read_stamp(connection: Connection) -> str:
    """Of the definitions that this transaction sees."""
    return value(connection, STAMP)
