"""Dumps as users make and restore them, and what tests ask about both ends afterwards."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from support import Cluster, Contents, Result, contents, create_database, roles, run_module

from lab import builds

CLIENTS = tuple(str(builds.build(major).bin) for major in builds.SUITES)

# What stands after an import beside what came from the source, until it is finished.
JOURNAL = (r"[\w ]+/.*\bhandover\b.*",)

# Why subscriptions are left out.
PUBLISHER = "a restored subscription would compete with the source's for its publisher"


def export(source: Cluster | Mapping[str, Any], directory: Path, check: bool = False, **options: Any) -> Result:
    """Run pg_dump_export with the lab's clients, and nothing that this machine has; it may fail."""
    endpoint = source.endpoint() if isinstance(source, Cluster) else source
    arguments = {"source": endpoint, "dump_directory": str(directory), "client_directory": CLIENTS, **options}
    return run_module("pg_dump_export", arguments, check=check)


def restore(target: Cluster | Mapping[str, Any], directory: Path | None, check: bool = False, **options: Any) -> Result:
    """Run pg_restore_import in the same way."""
    endpoint = target.endpoint() if isinstance(target, Cluster) else target
    arguments = {"target": endpoint, "client_directory": CLIENTS, **options}
    return run_module(
        "pg_restore_import", {**arguments, **({"dump_directory": str(directory)} if directory else {})}, check
    )


def finish(target: Cluster | Mapping[str, Any], *databases: str) -> Result:
    """Remove the journals."""
    return restore(target, None, state="finished", databases=list(databases))


def done(result: Result) -> Result:
    """The result of a run that succeeded."""
    assert not result.failed, f"{result.msg}\n{result.errors}"
    return result


def refused(result: Result, *words: str) -> Result:
    """The result of a run that failed with a message in which all of these words are."""
    assert result.failed, "it did not fail"
    assert result.remedy, f"there is no remedy: {result.msg}"
    assert all(word in result.msg for word in words), result.msg
    return result


def one(result: Result) -> dict[str, Any]:
    """What a run says about its only database."""
    [database] = done(result).databases
    return database


def look(cluster: Cluster, dbname: str, **options: bool) -> Contents:
    """All that a database holds."""
    with contextlib.closing(cluster.connect(dbname)) as session:
        return contents(session, **options)


def look_at_roles(cluster: Cluster) -> Contents:
    """All roles, but for the administrator whom a test made."""
    with contextlib.closing(cluster.connect()) as session:
        return roles(session, lambda name: name != "doadmin")


def databases(cluster: Cluster) -> set[str]:
    """Names of all databases but those that initdb made."""
    query = "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')"
    return {name for (name,) in cluster.sql("postgres", query)}


def assert_nothing_of_ours(*clusters: Cluster) -> None:
    """No database, role or session that a run made for itself is left."""
    query = """
        SELECT 'database ' || datname FROM pg_database WHERE datname LIKE 'handover%'
        UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname LIKE 'handover%'
        UNION ALL SELECT 'session in ' || datname FROM pg_stat_activity WHERE application_name = 'handover'
        UNION ALL SELECT 'membership in ' || roleid::regrole FROM pg_auth_members
            WHERE member = to_regrole('doadmin') AND NOT (admin_option AND roleid >= 16384)"""
    for cluster in clusters:
        assert cluster.sql("postgres", query) == []


# Tables, partitioned tables and materialized views that were filled, but for the journal.
FILLED = """
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'm') AND relispopulated AND nspname !~ '^(pg_|information_schema$|handover$)'"""


def statistics(cluster: Cluster, dbname: str) -> dict[str, tuple[int, int]]:
    """What the planner believes: of each relation, its rows, and how many columns have statistics."""
    columns = "(SELECT count(DISTINCT staattnum) FROM pg_statistic WHERE starelid = c.oid)"
    query = f"SELECT c.oid::regclass::text, reltuples::bigint, {columns}"
    return {name: (rows, columns) for name, rows, columns in cluster.sql(dbname, query + FILLED)}


def row_counts(cluster: Cluster, dbname: str) -> dict[str, tuple[int, int]]:
    """What is so: of each relation, its rows (those of children aside, those of partitions not), and its columns."""
    only = "CASE relkind WHEN 'p' THEN '' ELSE 'ONLY' END"
    columns = "(SELECT count(*) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)"
    query = f"SELECT c.oid::regclass::text, format('SELECT count(*) FROM %s %s', {only}, c.oid::regclass), {columns}"
    return {
        name: (cluster.sql(dbname, count)[0][0], columns)
        for name, count, columns in cluster.sql(dbname, query + FILLED)
    }


def listed(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of skipped objects, sorted."""
    return sorted(entry["object"] for entry in entries)


def small(cluster: Cluster, name: str = "small", rows: int = 10, columns: str = "i") -> str:
    """A database with one table of some rows."""
    create_database(cluster, name)
    cluster.sql(name, f"CREATE TABLE t AS SELECT {columns} FROM generate_series(1, %s) AS i", [rows])
    return name


def rows_of(cluster: Cluster, dbname: str) -> int:
    """Rows of that table."""
    return cluster.sql(dbname, "SELECT count(*) FROM t")[0][0]


def manifest_of(directory: Path, dbname: str = "small") -> dict:
    """The manifest of a database's dump."""
    return json.loads((directory / "databases" / dbname / "manifest.json").read_text())


def expected_on_target(before: Contents, tablespaces: bool) -> Contents:
    """What was on the source, but for what is left out on purpose."""
    after = {**before, "subscriptions": {}}
    for section in () if tablespaces else ("relations", "indexes"):
        after[section] = {name: {**value, "tablespace": None} for name, value in before[section].items()}
    return after


def as_seen_by_admin(found: Contents, admin: str = "doadmin") -> Contents:
    """What a source holds, with everything of its superuser handed to the administrator of the target.

    But not what is in schema "extensions": members of an extension belong to the superuser on both ends.
    """

    def renamed(value: Any) -> Any:
        return re.sub("^postgres(=|$)", rf"{admin}\1", value) if isinstance(value, str) else value

    objects = {
        name: {
            **value,
            "owner": renamed(value["owner"]),
            "privileges": sorted(map(renamed, value["privileges"])) if value["privileges"] else value["privileges"],
        }
        for name, value in found["objects"].items()
        if " extensions." not in name
    }
    objects = {**found["objects"], **objects}
    public = objects["schema public"]
    public["owner"] = "pg_database_owner"
    public["privileges"] = sorted(text.replace(f"{admin}=", "pg_database_owner=") for text in public["privileges"])
    return {**found, "objects": objects}
