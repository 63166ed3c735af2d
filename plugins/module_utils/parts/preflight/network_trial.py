# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target itself tries to reach the source. No password of the source is sent: being turned away is an answer.

With dblink nothing is written. A subscription is made in a transaction that is rolled back, before it has a slot.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import APPLICATION_NAME, psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Pair

TIMEOUT = 5  # seconds
NAME = "handover_probe"
OPTIONS = "connect = {connect}, enabled = false, create_slot = false, slot_name = NONE, copy_data = false"
PROBE = (
    f"BEGIN;\nCREATE SUBSCRIPTION {NAME} CONNECTION 'password=none' PUBLICATION {NAME}"
    f" WITH ({OPTIONS.format(connect='false')});\nROLLBACK;"
)

# libpq's words (src/interfaces/libpq/fe-connect.c) and the server's (src/backend/libpq/auth.c), by what they mean.
ANSWERS = (
    ("turned_away", ("no pg_hba.conf entry", "pg_hba.conf rejects")),
    ("no_tls", ("server does not support SSL",)),
    ("reached", ("password", "FATAL:", "certificate", "GSSAPI")),
    ("unreachable", ("refused", "not translate host", "timeout", "timed out", "No route", "unreachable", "reset by")),
)
REFUSALS = ("42501", "0A000")  # insufficient_privilege, feature_not_supported
NO_PASSWORD_ASKED = "2F003"  # since we give one, it was not asked for


@dataclass(frozen=True)
class Answer:
    """``meaning``: reached, not_asked (for a password), turned_away, no_tls, unreachable, or not_tried;
    ``words`` are the server's.

    ``address`` is the one under which the source saw the target, where it said so.
    """

    meaning: str
    words: str
    address: str | None = None


def connection_string(pair: Pair, dbname: str) -> str:
    """The source as the target would reach it, without a password."""
    source = pair.source.connection.info
    mode = pair.source.endpoint.parameters.get("sslmode", "prefer")
    return psycopg2.extensions.make_dsn(
        host=source.host,
        port=source.port,
        user=source.user,
        dbname=dbname,
        sslmode="require" if mode.startswith("verify") else mode,  # the authority's file is on this machine
        connect_timeout=TIMEOUT,
        application_name=APPLICATION_NAME,
        **({} if pair.target.capabilities.superuser else {"password": "none"}),  # dblink insists on one
    )


def try_dblink(pair: Pair, dbname: str) -> Answer:
    """Connect from the target by its dblink, in a session that cannot write."""
    installed = pair.target.rows("""
        SELECT n.nspname::text FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
        WHERE extname = 'dblink'""")
    if not installed:
        place = pair.target.connection.info.dbname
        return Answer("not_tried", f'dblink is not installed in database "{place}" of the target')
    function = sql.Identifier(installed[0][0], "dblink_connect")
    with pair.target.connection.cursor() as cursor:
        try:
            cursor.execute(sql.SQL("SELECT {}(%s, %s)").format(function), (NAME, connection_string(pair, dbname)))
        except psycopg2.Error as error:
            return _understood(error)
        function = sql.Identifier(installed[0][0], "dblink_disconnect")
        cursor.execute(sql.SQL("SELECT {}(%s)").format(function), (NAME,))
    return Answer("reached", "OK")


def try_subscription(pair: Pair, dbname: str) -> Answer:
    """Connect from the target by CREATE SUBSCRIPTION, and roll it back."""
    error = _create_subscription(pair.target, connection_string(pair, dbname), connect=True)
    return _understood(error) if error else Answer("reached", "OK")


def refused_subscription(target: Side) -> str:
    """Why the role may not create a subscription, in the server's words; empty if it may. Nothing is connected."""
    error = _create_subscription(target, "password=none", connect=False)
    if error is None or "for database" in (error.diag.message_primary or ""):
        return ""  # CREATE on the database is asked for after the right to create subscriptions
    return error.diag.message_primary or str(error)


def _create_subscription(target: Side, connection_string_: str, connect: bool) -> psycopg2.Error | None:
    statement = sql.SQL("CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} WITH (" + OPTIONS + ")").format(
        sql.Identifier(NAME),
        sql.Literal(connection_string_),
        sql.Identifier(NAME),
        connect=sql.SQL("true" if connect else "false"),
    )
    session = target.endpoint.connect(target.connection.info.dbname)
    with contextlib.closing(session), session.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            cursor.execute(statement)
        except psycopg2.Error as error:
            return error
        finally:
            cursor.execute("ROLLBACK")
    return None


def _understood(error: psycopg2.Error) -> Answer:
    words = " ".join(filter(None, (error.diag.message_primary, error.diag.message_detail)))
    words = one_line(words or error)
    if error.pgcode in (*REFUSALS, NO_PASSWORD_ASKED):
        return Answer("not_tried" if error.pgcode in REFUSALS else "not_asked", words)
    meaning = next((meaning for meaning, signs in ANSWERS if any(sign in words for sign in signs)), "not_tried")
    address = re.search(r'pg_hba.conf \w+(?: \w+)* for host "([^"]+)"', words)
    return Answer(meaning, words, address.group(1) if address else None)
