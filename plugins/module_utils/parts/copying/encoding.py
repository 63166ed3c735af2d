# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements for sessions that speak the encoding of a database, so that no row is converted on its way.

psycopg2 goes on in UTF-8: it would quote names wrongly otherwise. So what holds names is put into bytes here, and
names are read ``in_unicode``.
"""

from __future__ import annotations

import contextlib

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2


def encoded(session, statement) -> bytes:
    """A statement (str or sql.Composable) as the server reads it; in SQL_ASCII, names are whatever bytes they are."""
    encoding = session.info.parameter_status("client_encoding")
    codec = "utf-8" if encoding == "SQL_ASCII" else psycopg2.extensions.encodings.get(encoding, "utf-8")
    text = statement if isinstance(statement, str) else statement.as_string(session)
    return text.encode(codec)


@contextlib.contextmanager
def in_unicode(session):
    """Names can be read as long as the block runs."""
    encoding = session.info.parameter_status("client_encoding")
    if encoding != "UTF8":
        execute(session, "SET client_encoding = 'UTF8'")
    yield
    if encoding != "UTF8":
        execute(session, f"SET client_encoding = '{encoding}'")


def execute(session, statement) -> None:
    """Run a statement without a result."""
    with session.cursor() as cursor:
        cursor.execute(encoded(session, statement))
