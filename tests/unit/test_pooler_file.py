# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of PgBouncer's configuration lead elsewhere, and nothing else changes."""

from __future__ import annotations

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.parts.poolers.pgbouncer_file import lead

FILE = """\
;; ours
[databases]
; shop = host=never
shop = host=10.0.0.1 port=5432 pool_size=20 auth_user=pool
"a b" = dbname='a b' host=10.0.0.1 password='x=1 y'
* = host=10.0.0.1 auth_user=fallback

[pgbouncer]
shop = host=not-here
listen_port = 6432
"""
PLACE = {"host": "db.example.com", "port": 25060, "dbname": "shop"}


def changed(entries):
    before, after = FILE.splitlines(), lead(FILE, entries).splitlines()
    return [line for line in after if line not in before], [line for line in before if line not in after]


def test_an_entry_keeps_what_else_it_has():
    assert changed({"shop": PLACE}) == (
        ["shop = host=db.example.com port=25060 pool_size=20 auth_user=pool"],
        ["shop = host=10.0.0.1 port=5432 pool_size=20 auth_user=pool"],
    )


def test_another_name_on_the_server_is_said():
    (line,), _gone = changed({"shop": {**PLACE, "dbname": "defaultdb"}})
    assert line == "shop = host=db.example.com port=25060 dbname=defaultdb pool_size=20 auth_user=pool"


def test_names_with_spaces_are_quoted():
    (line,), _gone = changed({"a b": {**PLACE, "dbname": "a b"}})
    assert line == "\"a b\" = host=db.example.com port=25060 dbname='a b' password='x=1 y'"


def test_a_new_entry_has_what_the_fallback_has():
    (line,), gone = changed({"other": {**PLACE, "dbname": "other"}})
    assert line == "other = host=db.example.com port=25060 auth_user=fallback" and not gone
    assert lead(FILE, {"other": PLACE}).index("other =") < FILE.index("[pgbouncer]") + len(line) + 20


def test_doing_it_twice_changes_nothing_more():
    once = lead(FILE, {"shop": PLACE, "new": PLACE})
    assert lead(once, {"shop": PLACE, "new": PLACE}) == once


def test_a_file_without_databases_is_refused():
    with pytest.raises(HandoverError, match="no section"):
        lead("[pgbouncer]\nlisten_port = 6432\n", {"shop": PLACE})
