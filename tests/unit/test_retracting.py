# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes back what pg_dump said of an object before."""

from __future__ import annotations

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.retracting import (
    owner_statement,
    retracting_statements,
)

BEFORE = """
REVOKE ALL ON FUNCTION public.f() FROM PUBLIC;
GRANT SELECT(a) ON TABLE public."t TO x;" TO "a TO b" WITH GRANT OPTION;
SET SESSION AUTHORIZATION "a TO b";
GRANT SELECT(a) ON TABLE public."t TO x;" TO c;
RESET SESSION AUTHORIZATION;
ALTER DEFAULT PRIVILEGES FOR ROLE o IN SCHEMA s GRANT SELECT ON TABLES TO r;
"""


def test_privileges_are_taken_back_from_the_last():
    assert retracting_statements(BEFORE, "") == [
        "ALTER DEFAULT PRIVILEGES FOR ROLE o IN SCHEMA s REVOKE SELECT ON TABLES FROM r;",
        'SET ROLE "a TO b"; REVOKE SELECT(a) ON TABLE public."t TO x;" FROM c; RESET ROLE;',
        'REVOKE SELECT(a) ON TABLE public."t TO x;" FROM "a TO b";',
        "GRANT ALL ON FUNCTION public.f() TO PUBLIC;",
    ]
    assert retracting_statements(BEFORE, BEFORE) == []
    assert retracting_statements(BEFORE, BEFORE.replace("FROM PUBLIC", "FROM o"))[0].endswith("TO PUBLIC;")


@pytest.mark.parametrize(
    ("before", "now", "taken_back"),
    [
        ("COMMENT ON TABLE public.t IS 'a; COMMENT ON TABLE u IS ''x''';", "", ["COMMENT ON TABLE public.t IS NULL;"]),
        ("COMMENT ON TABLE public.t IS 'a';", "COMMENT ON TABLE public.t IS 'b';", []),
        ("""COMMENT ON TABLE "t IS 'x" IS 'a';""", "", ["""COMMENT ON TABLE "t IS 'x" IS NULL;"""]),
        ("SECURITY LABEL FOR d ON ROLE r IS 'l';", "", ["SECURITY LABEL FOR d ON ROLE r IS NULL;"]),
    ],
)
def test_comments_are_taken_back_where_there_are_none(before, now, taken_back):
    assert retracting_statements(before, now) == taken_back


def test_owners_are_given_as_pg_restore_gives_them():
    dropped = 'DROP FUNCTION public.f(integer, "DROP x");'
    assert owner_statement(dropped, 'a"b') == 'ALTER FUNCTION public.f(integer, "DROP x") OWNER TO "a""b";'
    assert owner_statement("DROP TYPE public.t CASCADE;", "o") == 'ALTER TYPE public.t OWNER TO "o";'
