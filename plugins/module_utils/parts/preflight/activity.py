# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what goes on at the source now: what a snapshot or a lock would have to wait for, and how old it all is."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, duration, script, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import (
    Finding,
    database_check,
    server_check,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database, Pair

LONG = 15  # seconds
# Transactions until the server refuses to begin another, less its own margin (PostgreSQL documentation, 24.1.5).
WRAPAROUND = 2**31 - 3_000_000
DANGEROUS_AGE = 1_600_000_000  # vacuum_failsafe_age, with which the server itself is alarmed
NOT_COPING = 2  # times autovacuum_freeze_max_age, at which autovacuum starts to freeze


@server_check("prepared_transactions", "No prepared transaction is pending on the source.")
def prepared_transactions(pair: Pair):
    """A transaction that two-phase commit has prepared stays, even over restarts, until somebody ends it."""
    found = pair.source.rows("""
        SELECT quote_literal(gid), database::text, extract(epoch FROM clock_timestamp() - prepared)::float8
        FROM pg_prepared_xacts ORDER BY prepared""")
    if not found:
        return
    names = [gid for gid, _database, _age in found]
    number, age = counted(len(found), "prepared transaction"), duration(found[0][2])
    seen = f"{number} on the source, the oldest for {age}: {some(names)}."
    remedy = "-- in its database; or COMMIT PREPARED\n" + script([f"ROLLBACK PREPARED {gid};" for gid in names])
    consequence = "The slot of a migration waits until they have ended."
    yield Finding("blocker", seen, consequence, remedy, names, methods=("continuous",))
    here = [gid for gid, database, _age in found if database in pair.databases]
    if here:
        consequence = "A dump lacks their changes, and their locks stay."
        yield Finding("warning", seen, consequence, remedy, here, methods=("dump",))


@server_check("long_transactions", f"No transaction on the source has been open for more than {LONG} s.")
def long_transactions(pair: Pair):
    """Idle ones count, too: a new slot waits for all transactions that were writing, in whatever database."""
    source = pair.source
    found = source.rows(
        """
        SELECT pid, format('process %%s (%%s, database %%I, %%s) for ', pid, usename, datname, state),
               extract(epoch FROM clock_timestamp() - xact_start)::float8, backend_xid IS NOT NULL
        FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND clock_timestamp() - xact_start > %s * interval '1 s'
        ORDER BY 3 DESC""",
        (LONG,),
    )
    ends = [f"SELECT pg_terminate_backend({pid});" for pid, *_rest in found]
    writing = [text + duration(age) for _pid, text, age, has_id in found if has_id]
    if writing:
        yield Finding(
            "warning",
            f"{counted(len(writing), 'transaction')} with changes open for more than {LONG} s: {some(writing)}.",
            "The slot of a migration waits until they have ended.",
            "Wait, or:\n" + script(ends),
            [text.split(" (")[0] for text in writing],
            methods=("continuous",),
        )
    reading = [text + duration(age) for _pid, text, age, _has_id in found]
    if reading:
        yield Finding(
            "info",
            f"{counted(len(reading), 'transaction')} open for more than {LONG} s: {some(reading)}.",
            "A dump, or a change of a table, waits for their locks.",
            "Wait, or:\n" + script(ends),
            [text.split(" (")[0] for text in reading],
        )
    yield from _unseen_sessions(source)


def _unseen_sessions(source: Side):
    if source.sees_all_sessions:
        return
    others = source.value("""
        SELECT count(*)::int FROM pg_stat_activity WHERE datid IS NOT NULL AND NOT pg_has_role(usesysid, 'USAGE')""")
    if others:
        role = source.value("SELECT quote_ident(current_user)")
        yield Finding(
            "unknown",
            f"What {counted(others, 'session')} of other roles do on the source is not visible to {role}.",
            remedy=f"GRANT pg_read_all_stats TO {role};",
        )


@database_check("locked_tables", "Nobody blocks reads of a table.")
def locked_tables(database: Database):
    """AccessExclusiveLock, held or waited for: everybody after that waits, too, pg_dump included."""
    found = database.rows("""
        SELECT l.relation::regclass::text, l.pid, l.granted,
               format('%s, %s', coalesce(a.usename, '?'), coalesce(nullif(a.state, ''), '?'))
        FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a USING (pid)
        WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.pid <> pg_backend_pid()
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.relation >= 16384
        AND EXISTS (SELECT FROM pg_class AS c WHERE c.oid = l.relation AND c.relkind IN ('r', 'p', 'm', 'S')
                    AND c.relpersistence <> 't')
        ORDER BY 1""")
    if found:
        tables = sorted({table for table, *_rest in found})
        holders = sorted(
            {f"process {pid} ({who}){'' if granted else ', which waits for it'}" for _table, pid, granted, who in found}
        )
        yield Finding(
            "warning",
            f"{counted(len(tables), 'table')} locked exclusively: {some(tables)}, by {some(holders)}.",
            "A dump or a copy waits for that.",
            "Wait, or:\n" + script(sorted({f"SELECT pg_terminate_backend({pid});" for _table, pid, *_rest in found})),
            tables,
        )


@server_check("transaction_age", "No database of the source is near the end of its transaction ids.")
def transaction_age(pair: Pair):
    """Ids of transactions and multixacts: a long copy keeps VACUUM from making them free (documentation, 24.1.5)."""
    for column, function, setting in (
        ("datfrozenxid", "age", "autovacuum_freeze_max_age"),
        ("datminmxid", "mxid_age", "autovacuum_multixact_freeze_max_age"),
    ):
        limit = pair.source.number(setting) * NOT_COPING
        found = pair.source.rows(
            f"SELECT quote_ident(datname), {function}({column}) FROM pg_database WHERE {function}({column}) > %s"
            " ORDER BY 2 DESC",
            (min(limit, DANGEROUS_AGE),),
        )
        if found:
            name, age = found[0]
            kind = "transaction" if function == "age" else "multixact"
            yield Finding(
                "blocker" if age > DANGEROUS_AGE else "warning",
                f"The oldest {kind} id of database {name} is {age:,} behind; {WRAPAROUND - age:,} are left before "
                "the source stops accepting writes.",
                "VACUUM is falling behind, and a snapshot or replication slot makes it worse. When the ids run out, "
                "the source stops accepting writes.",
                f"VACUUM (FREEZE); -- in {some([database for database, _age in found])}\n-- what may hold it up:\n"
                "SELECT pid, backend_xmin FROM pg_stat_activity ORDER BY age(backend_xmin) DESC NULLS LAST LIMIT 5;",
                [database for database, _age in found],
            )


@server_check("wraparound_vacuum", "No VACUUM to prevent wraparound runs on the source.")
def wraparound_vacuum(pair: Pair):
    """Unlike others, it does not give way to those who want to lock the table."""
    source = pair.source
    found = source.rows("""
        SELECT coalesce(quote_ident(datname), '?') || ': ' || regexp_replace(query, '^autovacuum: ', '')
        FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND query LIKE '%(to prevent wraparound)%'
        ORDER BY 1""")
    if found:
        yield Finding(
            "info",
            f"Running: {some([text for (text,) in found])}.",
            "The cutover locks tables and makes triggers: if one of these tables is published, the cutover waits "
            "for VACUUM.",
            "Let it finish before the cutover: SELECT * FROM pg_stat_progress_vacuum;",
            [text.split(": ")[0] for (text,) in found],
            methods=("continuous",),
        )
    elif not source.sees_all_sessions and source.value("SELECT count(*)::int FROM pg_stat_progress_vacuum"):
        remedy = "Look as a superuser: SELECT query FROM pg_stat_activity WHERE backend_type = 'autovacuum worker';"
        yield Finding("unknown", "VACUUM runs on the source; this role may not see for which purpose.", remedy=remedy)


# Tables in which schedulers keep their jobs, by what a job is called there.
SCHEDULERS = {
    "pg_cron": ("cron.job", "coalesce(to_jsonb(j) ->> 'jobname', j.jobid::text)", "j.active"),
    "pgAgent": ("pgagent.pga_job", "j.jobname", "j.jobenabled"),
    "pg_timetable": ("timetable.chain", "j.chain_name", "j.live"),
}


@database_check("scheduled_jobs", "No scheduler keeps jobs in the database.")
def scheduled_jobs(database: Database):
    """A scheduler runs its jobs wherever it is: on both servers or on none, unless you prevent it."""
    for scheduler, (table, job, active) in SCHEDULERS.items():
        if not database.value("SELECT to_regclass(%s) IS NOT NULL", (table,)):
            continue
        jobs = [name for (name,) in database.rows(f"SELECT {job} FROM {table} AS j WHERE {active} ORDER BY 1")]
        if jobs:
            yield Finding(
                "warning",
                f"{counted(len(jobs), 'job')} of {scheduler}: {some(jobs)}.",
                "On the target they start as soon as they exist, while the source's still run; or they never start.",
                "Hold them on the target until the cutover"
                + (
                    f":\nUPDATE {table} SET active = false; -- on the target, in the database of cron.database_name"
                    if scheduler == "pg_cron"
                    else "."
                ),
                jobs,
            )
