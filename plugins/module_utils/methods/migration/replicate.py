# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Continuous migration: a database is copied, then kept up by logical replication until the cutover."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base import next_step
from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import reason
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts import naming
from ansible_collections.handover.postgresql.plugins.module_utils.facts.capabilities import (
    Capabilities,
    read_capabilities,
)
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import (
    read_server,
    rows,
    select_databases,
    value,
)
from ansible_collections.handover.postgresql.plugins.module_utils.facts.wal import obstacle_to_logical_slots
from ansible_collections.handover.postgresql.plugins.module_utils.methods import destination
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.described_ahead import DescribedAhead
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.filling import incomplete
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.source_schema import choose_client
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import (
    apply,
    begin,
    identities,
    joining,
    recopy,
    waves,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import Job
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.wave_copy import FINISHED
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import target_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import continuity, home
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import (
    beacon,
    publication,
    replica_identity,
    slot,
    subscription,
    turn,
    witness,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.replication_plan import (
    ReplicationPlan,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.role_data import row_versions


def replicate(source: Endpoint, target: Endpoint, params: dict, check_mode: bool) -> dict:
    """Do what pg_logical_migrate documents for ``state: replicating``. Raises HandoverError."""
    with contextlib.closing(source.connect_for_maintenance(read_only=True)) as connection:
        names = select_databases(connection, params["databases"], params["ignore_databases"])
        _refuse_source(connection)
        result = {"source": read_server(connection).as_result()}
    with contextlib.closing(target.connect_for_maintenance()) as maintenance:
        result["target"] = read_server(maintenance).as_result()
        capabilities = read_capabilities(maintenance)
        _refuse_target(maintenance, capabilities)

        def work(dbname: str) -> dict:
            try:
                return _replicate(
                    dbname,
                    source=source,
                    target=target,
                    params=params,
                    check_mode=check_mode,
                    maintenance=maintenance,
                    capabilities=capabilities,
                )
            except HandoverError as error:
                raise error.of_database(dbname) from None
            except psycopg2.errors.InsufficientPrivilege as error:
                raise _not_allowed(error).of_database(dbname) from None

        databases = destination.each(names, work)
    followed = [text for one in databases for text in one.get("followed", ())]
    if followed:
        result["diff"] = {"before": "", "after": "".join(f"{text};\n" for text in followed)}
    return {**result, "databases": databases, "changed": any(one["changed"] for one in databases)}


def _not_allowed(error) -> HandoverError:
    return HandoverError(
        f"A server refused a statement: {reason(error)}.",
        "Connect to the source as a superuser, or as a role that owns the tables and may create schemas in the "
        "database. Connect to the target as a role that may create subscriptions. The preflight says what is "
        "missing.",
        sqlstate=error.pgcode,
    )


def _refuse_source(connection) -> None:
    if read_server(connection).in_recovery:
        raise HandoverError("The source is a standby, and a standby cannot publish.", "Give its primary as source.")
    obstacle = obstacle_to_logical_slots(connection, "source")
    if obstacle:
        raise HandoverError(obstacle, "Run the playbook prepare_source, or set wal_level and restart the source.")


def _refuse_target(connection, capabilities) -> None:
    """Raise HandoverError for a role that may not subscribe, before anything is made."""
    if capabilities.superuser or subscription.AIVEN in capabilities.extensions:
        return
    query = """
        SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pg_create_subscription' AND pg_has_role(oid, 'USAGE'))"""
    if not value(connection, query):
        since = (
            "" if capabilities.major >= 16 else " That role exists from PostgreSQL 16 on; before, only superusers may."
        )
        raise HandoverError(
            f"The role {capabilities.role} of the target may not create subscriptions.{since}",
            "GRANT pg_create_subscription to it, choose a newer target, or use the method dump.",
        )


def _replicate(
    dbname: str,
    *,
    source: Endpoint,
    target: Endpoint,
    params: dict,
    check_mode: bool,
    maintenance,
    capabilities: Capabilities,
) -> dict:
    goal = params["rename"].get(dbname, dbname)
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(contextlib.closing(source.connect(dbname, read_only=check_mode)))
        identifier = naming.migration_id(read_server(session), dbname, read_server(maintenance), goal)
        job = Job(
            source=source,
            target=target,
            params=params,
            check_mode=check_mode,
            maintenance=maintenance,
            capabilities=capabilities,
            dbname=dbname,
            goal=goal,
            id=identifier,
            source_session=session,
        )
        if not check_mode:
            stack.enter_context(turn.taken(session, identifier))
            stack.enter_context(destination.only_run(begin.destination_of(job), goal))
        migration = _visit(job, stack)
        _refuse_other_home(job, migration)
        if migration and migration.phase == "handed_over":
            return _follow_home(job)
        if migration and migration.phase == "stopped" and not _begins_anew(job):
            remedy = f"To begin anew, use replace: true and replace_databases: [{goal}]."
            raise HandoverError("This migration was stopped.", remedy)
        identities.refuse_left_out(job)
        if check_mode:
            return _preview(job, migration)
        try:
            planned = _begin(job, stack) if migration is None or migration.phase == "stopped" else None
            return _go_on(job, planned)
        except (HandoverError, psycopg2.Error) as error:
            if _is_open(session):
                raise
            raise _ended(error) from None


def _refuse_other_home(job: Job, migration: migration_journal.Migration | None) -> None:
    """Raise HandoverError where the source's database lives elsewhere by now, or is still to arrive here; without a
    journal, whichever migration has led it there.
    """
    home.refuse_elsewhere(job.source_session, "source", job.id if migration else None)
    found = home.incoming(job.source_session)
    if found:
        raise HandoverError(f"The database of the source {found[0]}.", found[1])


def _is_open(session) -> bool:
    with contextlib.suppress(psycopg2.Error):
        return bool(rows(session, "SELECT 1"))
    return False


def _ended(error) -> HandoverError:
    """The failure of a run whose session on the source, with which it had the turn, is gone."""
    text = error.problem if isinstance(error, HandoverError) else one_line(error)
    return HandoverError(
        f"This run's session on the source ended: the source went away, or somebody stopped the migration. {text}",
        "The status says what happened. Run this again to go on.",
    )


def _visit(job: Job, stack: contextlib.ExitStack) -> migration_journal.Migration | None:
    """Open the session in the target's database, where that is there, and read the journal."""
    if not target_database.is_valid(job.maintenance, job.goal):
        return None
    # In a session of its own, as the copy takes memberships of its own for a while.
    keeper = stack.enter_context(contextlib.closing(job.target.connect_for_maintenance()))
    job.session = stack.enter_context(target_database.visit(job.target, keeper, job.goal, job.check_mode))
    return job.read()


def _begins_anew(job: Job) -> bool:
    """Whether the operator named the database of a stopped migration as one to replace."""
    return job.params["replace"] and job.goal in job.params["replace_databases"]


def _follow_home(job: Job) -> dict:
    """After a handover: what was redefined at both ends is taken over. Raises HandoverError where nothing was."""
    if not joining.follow_home(job):
        if job.read().direction == "back":
            raise HandoverError("This migration was handed over and rolled back.", "Hand over again, or stop it.")
        raise HandoverError("This migration was handed over.", "Finish it, or roll back first.")
    return _result(job, [], None, 0)


def _begin(job: Job, stack: contextlib.ExitStack) -> ReplicationPlan:
    client = choose_client(job.source_session, job.maintenance, job.params)
    job.ahead = DescribedAhead(job.source, job.dbname, job.source_session, client, job.params)
    stack.callback(job.ahead.close)
    planned = begin.read_plan(job)
    if any(one.identity for one in planned.tables):  # giving these changes the schema, and waits for pg_dump's locks
        job.ahead.close()
        job.ahead = None
    begin.refuse_unwritable(job, planned)
    begin.refuse_event_triggers(job)  # all three refuse what cannot be, before anything is made
    if job.session:
        job.session.close()
    begin.make_target(job)
    witness.forget(job.source_session, job.id)
    _visit(job, stack)
    job.event("begun")
    job.event("roles", versions=row_versions(job.source_session))
    return planned


def _go_on(job: Job, planned: ReplicationPlan | None) -> dict:
    """From wherever the journal says that it is, to where it is asked to be."""
    started = time.monotonic()
    recopy.check(job)
    migration = job.read()
    if not any(wave.state == "subscribed" for wave in migration.waves):
        begin.check_connection(job)
    if not migration.tables or not migration.waves:
        planned = planned or begin.read_plan(job)
        begin.prepare_source(job, planned)
        begin.record_tables(job, planned)
    waves.settle(job)
    joining.forget_dropped(job)
    found = joining.look(job)
    waves.copy_waiting(job)
    try:
        lag = _catch_up(job)
    except HandoverError as error:
        raise identities.explained(job, error) from None
    recopy.conclude(job)
    result = _result(job, found, lag, time.monotonic() - started)
    if result["failures"]:
        raise identities.explained(job, incomplete(result["failures"], job.goal))
    return result


def _catch_up(job: Job) -> float | None:
    """Enable what is to apply, and wait as asked; returns the seconds that the last beacon took, None if not asked."""
    names = job.read().names
    apply.enable_ready(job)
    apply.Health(job, names).check()
    if job.read().phase == "copying":
        migration_journal.set_phase(job.session, job.id, "catching_up")
        job.event("catching_up")
    if job.params["wait_for"] == "copied":
        return None
    with job.stages.stage("catching up"):
        lag = apply.await_step(job, job.params["timeout"])
    apply.validate_pending(job)
    if job.read().phase == "catching_up":
        migration_journal.set_phase(job.session, job.id, "in_step")
        job.event("in_step", lag_seconds=round(lag, 3))
    return lag


def _result(job: Job, found: list[dict], lag: float | None, seconds: float) -> dict:
    migration = job.read()
    if job.notices:
        notices = [*migration.notices, *(text for text in job.notices if text not in migration.notices)]
        migration_journal.update(job.session, job.id, notices=notices)
        migration = job.read()
    return {
        "database": job.dbname,
        "target_database": job.goal,
        "id": job.id,
        "changed": job.changed,
        "phase": migration.phase,
        "waves": [
            {"name": wave.name, "number": wave.number, "lsn": wave.lsn, "state": wave.state} for wave in migration.waves
        ],
        "replicated": len(migration.replicated),
        "at_cutover": [f"{table.schema}.{table.name}" for table in migration.at_cutover],
        "rows_copied": sum(table.rows or 0 for table in migration.replicated),
        "drift": found,
        "followed": job.followed,
        "pending": migration.pending,
        "failures": migration.failures,
        "notices": migration.notices,
        "next": _next(job, migration, found),
        "lag_seconds": None if lag is None else round(lag, 3),
        "seconds": round(seconds, 3),
        "stages": job.stages.as_result(),
        **job.copied,
    }


def _next(job: Job, migration: migration_journal.Migration, found: list[dict]) -> str:
    verified = migration.verified
    if verified:
        sight = continuity.look(job.source_session, job.session, migration)
        verified = {**verified, "outdated": continuity.outdated(verified, sight)}
    state = {"phase": migration.phase, "direction": migration.direction, "drift": found, "verified": verified}
    return next_step.of_status(state)


def _preview(job: Job, migration: migration_journal.Migration | None) -> dict:
    """What check mode can say: the statements that would be run, secrets masked."""
    base: dict[str, Any] = {
        "database": job.dbname,
        "target_database": job.goal,
        "id": job.id,
        "changed": True,
        "notices": [],
    }
    if migration and migration.phase == "stopped":
        migration = None
    if migration and migration.waves:
        recopy.check(job)
        found = joining.look(job)
        _Presence(job, migration.names).check()
        refresh = job.params["refresh"] or job.params["follow_schema"]
        changed = _is_to_do(job, migration) or bool(refresh and found) or bool(job.followed)
        told = {"phase": migration.phase, "drift": found, "statements": job.followed, "followed": job.followed}
        return {**base, "changed": changed, **told}
    planned = begin.read_plan(job)
    if migration is None:
        begin.refuse_occupied(job)
        if job.session and target_database.own_objects(job.session):
            base["notices"].append(f'Everything in database "{job.goal}" of the target would be replaced.')
    name = job.wave_name(1)
    keys = [beacon.table(name), *(one.table.key for one in planned.replicated)]
    statements = [
        replica_identity.giving_statement(*one.table.key, one.identity) for one in planned.tables if one.identity
    ]
    statements += [*publication.statements(name, keys), sql.SQL(slot.command(name))]
    options = subscription.SubscriptionOptions(binary=planned.binary)
    statements.append(subscription.statement(job.maintenance, name, job.conninfo(shown=True), options))
    return {
        **base,
        "statements": [one.as_string(job.source_session) for one in statements],
        "replicated": len(planned.replicated),
        "at_cutover": [str(one.table) for one in planned.at_cutover],
        "structure_only": planned.structure_only,
    }


class _Presence(apply.Health):
    """What a run cannot mend: slots and subscriptions that are gone. It enables what is disabled."""

    def _check_apply(self, name: str, state: dict) -> None:
        pass


def _is_to_do(job: Job, migration: migration_journal.Migration) -> bool:
    """Whether anything is left to a run."""
    last, in_step = migration.waves[-1], job.params["wait_for"] == "in_step"
    return (
        any(table.wave is None for table in migration.replicated)
        or any(wave.state == "copying" for wave in migration.waves)
        or not last.copied
        or any(table.state not in FINISHED for table in migration.at_cutover)
        or any(not one["enabled"] for one in subscription.state(job.session, migration.names).values())
        or migration.phase == "copying"
        or bool(migration.failures)
        or (in_step and (bool(migration.pending) or migration.phase == "catching_up"))
    )
