# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets masked in results, and nothing else that is spelled like one."""

from __future__ import annotations

import json
from urllib.parse import quote

import psycopg2.extensions
import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.base.secrets import MASK, masked, sealed
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.hidden_options import (
    without_hidden_options,
)

STRONG = "Tr0ub4dor &3'x\\y%{{ü"
WORDS = ["a", "shop", "postgres", "5432", "true", "different", "public.orders", "equal", "/var/lib/postgresql"]
RESULT = {
    "msg": 'Database "shop", table public.orders: in /var/lib/postgresql of postgres, true, 5432 are different.',
    "databases": [{"database": "shop", "verdict": "different", "place": ["postgres", "5432", "shop"], "rows": 5432}],
    "ok": True,
    "data_directory": "/var/lib/postgresql",
    "tables": ["public.orders"],
    "classes": {"rows": {"equal": 1}, "equal": ["equal"]},
}


@pytest.mark.parametrize("secret", WORDS)
def test_words_stay(secret):
    assert sealed(RESULT, {secret}, {}) == RESULT
    assert masked("FATAL: a word", [secret]) == "FATAL: a word"


def forms(secret: str) -> list[str]:
    """How texts of others show a secret."""
    dsn = psycopg2.extensions.make_dsn(host="h", password=secret, user="u")
    literal = "E'" + dsn.replace("\\", "\\\\").replace("'", "''") + "'"
    return [
        dsn,
        f"CREATE SUBSCRIPTION s CONNECTION {literal} PUBLICATION p",
        "ALTER ROLE r PASSWORD '{}'".format(secret.replace("'", "''")),
        f"postgresql://u:{quote(secret, safe='')}@h/x",
        json.dumps({"password": secret}),
        json.dumps({"sslpassword": secret}, ensure_ascii=False),
        f"PGPASSWORD={secret} psql",
        f'pgpass: "{secret}"',
    ]


@pytest.mark.parametrize("secret", ["a", "shop", "5432", "true", "it's", "b\\a", "p%s", "{{ x }}", STRONG])
def test_credentials_are_masked_in_any_text(secret):
    for text in forms(secret):
        for key in ("msg", "statements"):
            found = sealed({key: [text]}, {secret}, {"user": secret})[key][0]
            assert MASK in found, text
            assert found != text and found.count(MASK) == 1, found
        assert MASK in masked(text, [secret]), text


@pytest.mark.parametrize("text", [f"it was {STRONG}, it seems", STRONG, f"'{STRONG}'", quote(STRONG, safe="")])
def test_what_can_only_be_a_secret_is_masked_in_messages(text):
    assert MASK in masked(text, [STRONG])
    for result in ({"msg": text}, {"exception": text}, {"databases": [{"notices": [text]}]}):
        assert MASK in json.dumps(sealed(result, {STRONG}, {})), result


def test_a_name_that_is_the_password_too_is_no_secret():
    """In full length: it is in the inventory as a name, or the result has it as one."""
    message = {"msg": 'Database "Production-Shop 2024" is not there.'}
    assert sealed(message, {"Production-Shop 2024"}, {"databases": ["Production-Shop 2024"]}) == message
    named = {**message, "database": "Production-Shop 2024"}
    assert sealed(named, {"Production-Shop 2024"}, {}) == named
    assert MASK in sealed(message, {"Production-Shop 2024"}, {})["msg"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            """CREATE USER MAPPING FOR "o'n" SERVER "a;b" OPTIONS (\n "user" 'x',\n password 'it''s (1)'\n);""",
            """CREATE USER MAPPING FOR "o'n" SERVER "a;b" OPTIONS (\n "user" '********',\n password '********'\n);""",
        ),
        ("ALTER USER MAPPING FOR a SERVER b OPTIONS (SET c E'd\\\\'); SELECT 'e'", None),
        ("CREATE SERVER s OPTIONS (host 'h')", "CREATE SERVER s OPTIONS (host 'h')"),
        ("CREATE USER MAPPING FOR a SERVER b; SELECT ('c')", "CREATE USER MAPPING FOR a SERVER b; SELECT ('c')"),
    ],
)
def test_options_of_user_mappings(given, shown):
    shown = shown or "ALTER USER MAPPING FOR a SERVER b OPTIONS (SET c E'********'); SELECT 'e'"
    assert without_hidden_options(given) == shown
