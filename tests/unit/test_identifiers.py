# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names as every server spells them."""

from __future__ import annotations

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.base.identifiers import dotted, unquoted

# What servers write, or write with quote_all_identifiers, and what that is to us.
SPELLED = {
    '"public"."json"': "public.json",
    'public."json"."Order"': 'public.json."Order"',
    '"public"."f"("pg_catalog"."json","json"[],integer)': "public.f(json,json[],integer)",
    '"pg_catalog"."char", "char", "character"': 'pg_catalog."char", "char", character',
    """'{"json": "it''s"}'::"json" AS "json\"""": """'{"json": "it''s"}'::json AS json""",
    """"it's" = '"json"' AND "x" <> '\\'""": """"it's" = '"json"' AND x <> '\\'""",
    '"a""b"."c""" "json"': '"a""b"."c""" json',
    '"1a" "a b" "ä" "A" "_a$1"': '"1a" "a b" "ä" "A" _a$1',
    "x.pg_catalog.json, pg_catalog.jsonb, pg_catalog.json": "x.pg_catalog.json, pg_catalog.jsonb, json",
    'role "it\'s" of \'"json"': "role \"it's\" of 'json",
}


@pytest.mark.parametrize("text", SPELLED)
def test_only_quotes_of_keywords_go(text):
    assert unquoted(text) == SPELLED[text]
    assert unquoted(SPELLED[text]) == SPELLED[text]


def test_names_as_they_are():
    assert dotted("public", "json") == unquoted('"public"."json"') == "public.json"
    assert dotted('a"b', "C d") == '"a""b"."C d"'
