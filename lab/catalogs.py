# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogs of a server as far as a migration could leave something in them, to compare before with after."""

from __future__ import annotations

from lab.cluster import Cluster

# Names instead of oids, so that what was made again in the same way is the same.
OF_SERVER = {
    "slots": "SELECT slot_name, plugin, database FROM pg_replication_slots",
    "subscriptions": """
        SELECT datname, subname, subenabled FROM pg_subscription JOIN pg_database AS d ON d.oid = subdbid""",
    "origins": "SELECT roname FROM pg_replication_origin",
    "roles": "SELECT * FROM pg_roles WHERE oid >= 16384",
    "memberships": "SELECT roleid::regrole::text, member::regrole::text, admin_option FROM pg_auth_members",
    "databases": "SELECT datname, pg_get_userbyid(datdba), datacl::text, datconnlimit FROM pg_database",
    "database settings": "SELECT setdatabase, setrole::regrole::text, setconfig FROM pg_db_role_setting",
    "settings": """
        SELECT name, setting, source FROM pg_settings
        WHERE source NOT IN ('client', 'session', 'override') AND name <> 'transaction_read_only'""",
    "prepared transactions": "SELECT gid FROM pg_prepared_xacts",
}
USER = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
OF_DATABASE = {
    "schemas": f"""
        SELECT nspname, pg_get_userbyid(nspowner), nspacl::text, obj_description(oid, 'pg_namespace')
        FROM pg_namespace AS n WHERE {USER}""",
    "relations": f"""
        SELECT n.nspname, relname, relkind, relpersistence, relreplident, pg_get_userbyid(relowner), relacl::text,
               reloptions, relrowsecurity
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace WHERE {USER}""",
    "indexes": f"""
        SELECT indexrelid::regclass::text, indisreplident, indisvalid
        FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid JOIN pg_namespace AS n ON n.oid = relnamespace
        WHERE {USER}""",
    "triggers": "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal",
    "functions": f"""
        SELECT p.oid::regprocedure::text, prosrc FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = pronamespace
        WHERE {USER}""",
    "constraints": f"""
        SELECT conrelid::regclass::text, conname, convalidated FROM pg_constraint
        JOIN pg_namespace AS n ON n.oid = connamespace WHERE {USER}""",
    "publications": "SELECT pubname, puballtables FROM pg_publication",
    "published": "SELECT pubname, schemaname, tablename FROM pg_publication_tables",
    "event triggers": "SELECT evtname, evtenabled FROM pg_event_trigger",
    "extensions": "SELECT extname, extversion FROM pg_extension",
    "default privileges": "SELECT pg_get_userbyid(defaclrole), defaclobjtype, defaclacl::text FROM pg_default_acl",
    "large objects": "SELECT oid FROM pg_largeobject_metadata",
}


def of_server(cluster: Cluster) -> dict[str, list]:
    """Rows, as sorted text, of what is common to all databases."""
    return {name: _read(cluster, "postgres", query) for name, query in OF_SERVER.items()}


def of_database(cluster: Cluster, dbname: str) -> dict[str, list]:
    """Rows, as sorted text, of one database."""
    return {name: _read(cluster, dbname, query) for name, query in OF_DATABASE.items()}


def traces(catalogs: dict[str, list]) -> list[str]:
    """Rows that have the word by which everything of ours is known."""
    return [f"{name}: {row}" for name, rows in catalogs.items() for row in rows if "handover" in row]


def changes(before: dict[str, list], after: dict[str, list]) -> list[str]:
    """Rows that are there now and were not, and the other way round."""
    return [
        f"{sign} {name}: {row}"
        for name in before
        for sign, gone, kept in (("-", before[name], after[name]), ("+", after[name], before[name]))
        for row in gone
        if row not in kept
    ]


def _read(cluster: Cluster, dbname: str, query: str) -> list[str]:
    return sorted(str(row) for row in cluster.sql(dbname, query))
