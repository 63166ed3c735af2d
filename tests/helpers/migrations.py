# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Continuous migrations as users run them, and what tests ask about both ends afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dumps import CLIENTS, JOURNAL, done, look, one
from support import Cluster, Result, Running, assert_same, run_module, start_module

# Carried over at the cutover, or not at all while changes are replicated.
NOT_KEPT_UP = (
    r"positions/.*",
    r"large objects/.*",
    r"objects/large object .*",
    r"rows of views/.*",
    r"[\w ]+/(publication |subscription )?handover_.*",
)
# What is migrated: tables with keys, a foreign key, and one that is larger.
TABLES = """
    CREATE TABLE keyed (id int PRIMARY KEY, word text, double int GENERATED ALWAYS AS (id * 2) STORED);
    INSERT INTO keyed (id, word) SELECT i, md5(i::text) FROM generate_series(1, 2000) AS i;
    CREATE TABLE child (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, keyed int REFERENCES keyed);
    INSERT INTO child (keyed) SELECT id FROM keyed;
    CREATE TABLE big (id int PRIMARY KEY, word text); CREATE INDEX ON big (word);
    INSERT INTO big SELECT i, repeat(md5(i::text), 4) FROM generate_series(1, 3000) AS i"""


def options(source: Cluster | Mapping[str, Any], target: Cluster | Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Arguments of pg_logical_migrate with the lab's clients."""
    given = {"source": source, "target": target}
    ends = {side: end.endpoint() if isinstance(end, Cluster) else end for side, end in given.items()}
    return {**ends, "client_directory": CLIENTS, "timeout": 60, "slot_patience": 30, "jobs": 2, **more}


def migrate(source: Any, target: Any, check: bool = False, env: Mapping[str, str] | None = None, **more: Any) -> Result:
    """Run pg_logical_migrate; it may fail."""
    return run_module("pg_logical_migrate", options(source, target, **more), check=check, env=env)


def start_migration(source: Any, target: Any, **more: Any) -> Running:
    """Start it, without waiting for its end."""
    return start_module("pg_logical_migrate", options(source, target, **more))


def stopped(source: Any, target: Any, **more: Any) -> dict[str, Any]:
    """What giving up says of the only database."""
    return one(migrate(source, target, state="stopped", **more))


def finished(source: Any, target: Any, **more: Any) -> dict[str, Any]:
    """What removing every trace says of the only database."""
    return one(migrate(source, target, state="finished", without_cutover=True, **more))


def copy_roles(source: Cluster, target: Cluster | Mapping[str, Any], place: Path) -> None:
    """Bring the roles over as playbooks do."""
    given = {"dump_directory": str(place / "roles"), "include": ["roles"], "client_directory": CLIENTS}
    done(run_module("pg_dump_export", {**given, "source": source.endpoint()}))
    endpoint = target.endpoint() if isinstance(target, Cluster) else target
    done(run_module("pg_restore_import", {**given, "target": endpoint}))


def in_step(source: Any, target: Any, **more: Any) -> dict[str, Any]:
    """What a run says of the only database, which is in step then."""
    found = one(migrate(source, target, **more))
    assert found["phase"] == "in_step", found
    return found


def assert_kept_up(
    source: Cluster, target: Cluster, dbname: str, found: Mapping[str, Any], ignore: Iterable[str] = ()
) -> None:
    """Both ends hold the same, but for what is the cutover's; nobody writes any more, and ``found`` said in step."""
    left = "|".join(re.escape(name) for name in not_kept_up(source, dbname, found["at_cutover"]))
    ignored = (*JOURNAL, *NOT_KEPT_UP, *([f"rows/({left})"] if left else []), *ignore)
    assert_same(look(source, dbname), look(target, dbname), ignored)


def not_kept_up(cluster: Cluster, dbname: str, names: Iterable[str]) -> list[str]:
    """Tables that results name ``schema.table``, what they are parts of, and materialized views, by regclass."""
    query = """
        SELECT r.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace,
        LATERAL (SELECT c.oid UNION SELECT relid FROM pg_partition_ancestors(c.oid)) AS r (oid)
        WHERE nspname || '.' || relname = ANY (%s)
        UNION SELECT oid::regclass::text FROM pg_class WHERE relkind = 'm'"""
    with cluster.connect(dbname) as session, session.cursor() as cursor:
        cursor.execute("SET search_path = ''")
        cursor.execute(query, (list(names),))
        return [name for (name,) in cursor.fetchall()]


def traces(cluster: Cluster, dbname: str) -> list[str]:
    """What of ours is in a database and on its server."""
    query = """
        SELECT 'publication ' || pubname FROM pg_publication WHERE pubname LIKE 'handover%'
        UNION ALL SELECT 'subscription ' || subname FROM pg_subscription WHERE subname LIKE 'handover%'
        UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE slot_name LIKE 'handover%'
        UNION ALL SELECT 'origin ' || roname FROM pg_replication_origin
        UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'handover%'
        UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname LIKE 'handover%'
        UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgname LIKE 'handover%'
        UNION ALL SELECT 'database ' || datname FROM pg_database WHERE datname LIKE 'handover%' ORDER BY 1"""
    return [name for (name,) in cluster.sql(dbname, query)]
