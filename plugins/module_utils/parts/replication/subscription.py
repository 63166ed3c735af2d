# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Subscriptions of a migration. The slot is made and dropped elsewhere: none of this needs the publisher to be there,
except ``create``, which asks it for the list of tables.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import Trial, reason, transaction
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import witness
from ansible_collections.handover.postgresql.plugins.module_utils.parts.trust import unseen

AIVEN = "aiven_extras"


class SubscriptionError(HandoverError):
    """A subscription cannot be made; ``reason`` says why, whoever is to subscribe to whom."""

    def __init__(self, reason: str, remedy: str = "", **facts):
        super().__init__(f"The target cannot subscribe to the source: {reason}.", remedy, **facts)
        self.reason = reason


@dataclass(frozen=True)
class SubscriptionOptions:
    """How a subscription applies; the rest follows from the majors.

    ``run_as_owner``: as the role that owns the subscription, from 16 on; else as the owner of each table.
    ``binary``: values in binary form, from 14 on both ends. ``owner``: who is to own it, instead of a superuser who
    makes it.
    """

    run_as_owner: bool = False
    binary: bool = False
    owner: str | None = None

    def clause(self, version: int):
        """SQL of what stands behind WITH for a subscriber of this server version number.

        Not disable_on_error: it takes a lost connection for an error, too, and the source would hold back WAL for ever.
        """
        given = ["connect = true", "create_slot = false", "copy_data = false", "enabled = false"]
        if version >= 140000:
            given += [f"streaming = {'parallel' if version >= 160000 else 'on'}"]
            given += ["binary = true"] if self.binary else []
        if version >= 160000:
            given += [f"run_as_owner = {str(self.run_as_owner).lower()}"]
        if self.owner:
            given += ["password_required = false"]  # the source may know the target by other means
        return sql.SQL(", ".join(given))


def create(connection, name: str, conninfo: str, options: SubscriptionOptions, record=None) -> None:
    """Subscribe, not enabled, to the publication of the same name by the slot of the same name.

    The subscription and what ``record(connection)`` writes are there together or not at all. ``conninfo`` holds a
    password, which no log of the server shows. Raises HandoverError.
    """
    try:
        with transaction(connection) as cursor:
            unseen.execute(cursor, statement(connection, name, conninfo, options).as_string(connection))
            if options.owner:
                names = sql.Identifier(name), sql.Identifier(options.owner)
                cursor.execute(sql.SQL("ALTER SUBSCRIPTION {} OWNER TO {}").format(*names))
            if uses_aiven_extras(connection):
                disable(connection, name)  # it knows no other way
            if not state(connection, [name])[name]["tables"]:
                raise _publishes_nothing(name)
            witness.sign_subscription(connection, name)
            if record:
                record(connection)
    except psycopg2.Error as error:
        raise _refusal(connection, error) from None


def statement(connection, name: str, conninfo: str, options: SubscriptionOptions):
    """The SQL; for showing, give a ``conninfo`` with the password masked."""
    if uses_aiven_extras(connection):
        function = sql.SQL("SELECT aiven_extras.pg_create_subscription({}, {}, {}, {}, false, false)")
        literals = [sql.Literal(text) for text in (name, conninfo, name, name)]
        return function.format(*literals)
    template = sql.SQL("CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} WITH ({}, slot_name = {})")
    return template.format(
        sql.Identifier(name),
        sql.Literal(conninfo),
        sql.Identifier(name),
        options.clause(connection.info.server_version),
        sql.Literal(name),
    )


def uses_aiven_extras(connection) -> bool:
    """Whether this role, which may not subscribe by itself, has that extension in this database."""
    if connection.info.parameter_status("is_superuser") == "on":
        return False
    query = """
        SELECT NOT rolsuper AND EXISTS (SELECT FROM pg_extension WHERE extname = %s)
               AND NOT EXISTS (SELECT FROM pg_roles AS p WHERE p.rolname = 'pg_create_subscription'
                               AND pg_has_role(r.oid, p.oid, 'USAGE'))
        FROM pg_roles AS r WHERE rolname = current_user"""
    return rows(connection, query, (AIVEN,))[0][0]


def attempt(connection, name: str, conninfo: str, options: SubscriptionOptions, before=()) -> None:
    """Subscribe, and take it back: whether the target reaches the source, and this role may. Raises HandoverError.

    No slot is needed for that, nor a publication, of which the server would say no more than that it is not there.
    ``before``: statements that make the database what it will be by then, as far as this role may run them.
    """
    try:
        with transaction(connection, end="ROLLBACK") as cursor:
            attempts = Trial(cursor)
            for one in before:
                attempts.attempt(one)
            unseen.execute(cursor, statement(connection, name, conninfo, options).as_string(connection))
    except psycopg2.Error as error:
        raise _refusal(connection, error) from None


def extension_statements(connection) -> tuple[str, str] | None:
    """(what installs aiven_extras in this database, what removes it), where this role needs it and it is offered."""
    query = f"""
        SELECT FROM pg_available_extensions, pg_roles AS r
        WHERE name = '{AIVEN}' AND installed_version IS NULL AND rolname = current_user AND NOT rolsuper
        AND NOT EXISTS (SELECT FROM pg_roles AS p WHERE p.rolname = 'pg_create_subscription'
                        AND pg_has_role(r.oid, p.oid, 'USAGE'))"""
    found = rows(connection, query)
    return (f"CREATE EXTENSION {AIVEN} CASCADE", f"DROP EXTENSION IF EXISTS {AIVEN}") if found else None


def exists(connection, name: str) -> bool:
    """Whether this database has a subscription of that name."""
    return name in state(connection, [name])


def enable(connection, name: str) -> None:
    """Let it apply."""
    _alter(connection, name, "ENABLE", "aiven_extras.pg_alter_subscription_enable")


def disable(connection, name: str) -> None:
    """Let it pause; the worker ends a moment later."""
    _alter(connection, name, "DISABLE", "aiven_extras.pg_alter_subscription_disable")


def refresh(connection, name: str) -> None:
    """Let tables that its publication has got since come along, with their rows. Raises HandoverError."""
    try:
        if uses_aiven_extras(connection):
            rows(connection, "SELECT aiven_extras.pg_alter_subscription_refresh_publication(%s, true)", (name,))
            return
        with connection.cursor() as cursor:  # which no transaction can have
            statement = "ALTER SUBSCRIPTION {} REFRESH PUBLICATION WITH (copy_data = true)"
            cursor.execute(sql.SQL(statement).format(sql.Identifier(name)))
    except psycopg2.Error as error:
        raise _refusal(connection, error) from None


def drop(connection, name: str) -> bool:
    """Drop it and its worker, and leave the slot, for which the publisher would be needed; whether it was there."""
    if not exists(connection, name):
        return False
    if uses_aiven_extras(connection):
        disable(connection, name)
        rows(connection, "SELECT aiven_extras.pg_drop_subscription(%s)", (name,))
        return True
    actions = "ALTER SUBSCRIPTION {0} DISABLE; ALTER SUBSCRIPTION {0} SET (slot_name = NONE); DROP SUBSCRIPTION {0}"
    with connection.cursor() as cursor:  # in one transaction: nobody has to be told who altered it
        cursor.execute(sql.SQL(actions).format(sql.Identifier(name)))
    return True


def state(connection, names: list[str]) -> dict[str, dict]:
    """State of subscriptions of this database by name; those that are not there are left out.

    Each: ``enabled``, ``applying`` (its worker runs), ``pid`` of that, ``received_lsn``, ``last_message`` (ISO time by
    the publisher's clock), ``tables`` (how many it applies to), ``errors`` (of apply, since the last reset of
    statistics; None before 15). Counts are None where this role may not look.
    """
    errors = "(SELECT s.apply_error_count FROM pg_stat_subscription_stats AS s WHERE s.subid = o.oid)"
    query = f"""
        SELECT o.subname::text, json_build_object(
            'enabled', o.subenabled, 'applying', w.pid IS NOT NULL, 'pid', w.pid, 'received_lsn', w.received_lsn,
            'last_message', w.latest_end_time,
            'tables', (SELECT count(*) FROM pg_subscription_rel AS r WHERE r.srsubid = o.oid),
            'errors', {errors if connection.info.server_version >= 150000 else "NULL"})
        FROM pg_subscription AS o LEFT JOIN LATERAL (
            SELECT pid, received_lsn, latest_end_time FROM pg_stat_subscription AS a
            WHERE a.subid = o.oid AND a.relid IS NULL ORDER BY pid IS NULL, latest_end_time DESC NULLS LAST LIMIT 1
        ) AS w ON true
        WHERE o.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND o.subname = ANY (%s)"""
    return dict(rows(connection, query, (names,)))


def _alter(connection, name: str, action: str, aiven_function: str) -> None:
    if uses_aiven_extras(connection):
        rows(connection, f"SELECT {aiven_function}(%s)", (name,))
        return
    with transaction(connection) as cursor:
        cursor.execute(sql.SQL("ALTER SUBSCRIPTION {} " + action).format(sql.Identifier(name)))
        witness.sign_subscription(connection, name)


def _refusal(connection, error) -> Exception:
    if connection.closed:
        return error
    return SubscriptionError(reason(error), _remedy(connection, error), sqlstate=error.pgcode)


def _publishes_nothing(name: str) -> SubscriptionError:
    """Servers do not mind a publication that is not there."""
    return SubscriptionError(f"the server that it reaches has no publication {name}", OPTION)


def _remedy(connection, error) -> str:
    if error.pgcode == "2F003":
        return "Only a superuser may subscribe without a password: set source.password, or replication.password."
    if error.pgcode == "42501" and "database" in str(error):
        statement = "GRANT CREATE, TEMPORARY, CONNECT ON DATABASE {} TO {}"
        names = rows(connection, "SELECT current_database()::text, current_user::text")[0]
        grant = sql.SQL(statement).format(*map(sql.Identifier, names)).as_string(connection)
        return f"As a superuser: {grant}; or grant the role of its owner to this one, WITH INHERIT TRUE."
    if error.pgcode == "42501":
        return "Connect as a role that may subscribe: a superuser or, from 16 on, a member of pg_create_subscription."
    return OPTION


OPTION = (
    "Check the option replication, which says how the target's server reaches the source (unset values come from "
    "source), and allow that connection on the source."
)
