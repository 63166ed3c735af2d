# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes to single entries of an archive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.edits import (
    grantors,
    grants_alone,
    owners_grants_alone,
    with_public_perhaps_there,
    with_set_role,
    without_grants,
    without_owner,
    without_pg_attver,
)

ENTRIES = Contents.parse((Path(__file__).parent / "toc" / "18-utf8.dat").read_bytes()).entries


def entry(desc, definition, **more):
    """An entry of this class and definition."""
    return replace(ENTRIES[0], desc=desc, definition=definition, **more)


@pytest.mark.parametrize("column", ['"a"', "a$1", '"two ""words"""', '"new\nline"', '"SET (x)"', '"ä; DROP"'])
@pytest.mark.parametrize("kind", ["TABLE", "FOREIGN TABLE"])
def test_pg_attver_is_taken_from_column_options(kind, column):
    head = f'CREATE {kind} "s"."t" (\n    "a" integer\n);\n'
    option = f'ALTER {kind} ONLY "s"."t" ALTER COLUMN {column} SET (%s);\n'
    after = 'ALTER TABLE ONLY "s"."t" ALTER COLUMN "a" SET STATISTICS 5;\n'

    def edited(options):
        return without_pg_attver(entry("TABLE", head + option % options + after)).definition

    assert edited("pg_attver=26586904") == head + after
    assert edited("n_distinct=40, pg_attver=1") == head + option % "n_distinct=40" + after
    assert edited("pg_attver=1, n_distinct=40") == head + option % "n_distinct=40" + after
    assert edited("n_distinct=-0.5, pg_attver=1, n_distinct_inherited=3") == (
        head + option % "n_distinct=-0.5, n_distinct_inherited=3" + after
    )
    untouched = entry("FUNCTION", "CREATE FUNCTION f() AS 'SELECT ''(pg_attver=1, x)''';\n")
    assert without_pg_attver(untouched).definition == untouched.definition


ROLES = ["app", "App ; role", 'quo"ted', "it's", "TO x"]


def quoted(role):
    return '"' + role.replace('"', '""') + '"'


@pytest.mark.parametrize("role", ROLES)
def test_grants_of_one_role_are_taken_out_and_no_others(role):
    others = [other for other in [*ROLES, "application", "my app"] if other != role]
    kept = "".join(f'GRANT SELECT ON TABLE "x; TO y" TO {quoted(other)};\n' for other in others)
    gone = (
        f"GRANT ALL ON TABLE t TO {quoted(role)};\nGRANT SELECT (a) ON TABLE t TO {quoted(role)} WITH GRANT OPTION;\n"
    )
    more = f"REVOKE ALL ON TABLE t FROM {quoted(role)};\nREVOKE ALL ON TABLE t FROM PUBLIC;\n"
    edited = without_grants(entry("ACL", gone + kept + more + gone), role)
    assert edited.definition == kept + "REVOKE ALL ON TABLE t FROM PUBLIC;\n"
    comment = entry("COMMENT", f"COMMENT ON TABLE t IS 'GRANT x TO {quoted(role)}';\n")
    assert without_grants(comment, role) is comment


@pytest.mark.parametrize("role", ROLES)
def test_grants_are_made_as_their_grantor(role):
    text = "SET SESSION AUTHORIZATION {};\nGRANT SELECT ON TABLE t TO x;\nRESET SESSION AUTHORIZATION;\n"
    acl = entry("ACL", text.format(quoted(role)))
    assert grantors(acl) == {role}
    grant = "GRANT SELECT ON TABLE t TO x;\nRESET ROLE;\n"
    assert with_set_role(acl, {role}).definition == f"SET ROLE {quoted(role)};\n{grant}"
    assert with_set_role(acl, {"another"}).definition.strip() == grant.strip()
    assert with_set_role(entry("TABLE", acl.definition), {role}).definition == acl.definition


def test_default_privileges_have_their_role_for_a_grantor():
    assert grantors(entry("DEFAULT ACL", "ALTER DEFAULT PRIVILEGES ...", owner="boss")) == {"boss"}
    assert grantors(entry("TABLE", "CREATE TABLE ...", owner="boss")) == set()


def test_owners():
    table = entry("TABLE", "CREATE TABLE ...", owner="boss")
    assert without_owner(table, "boss").owner == ""
    assert without_owner(table, "boss's") is table


def test_schema_public():
    public = entry("SCHEMA", 'CREATE SCHEMA "public";\n', tag="public")
    assert with_public_perhaps_there(public).definition == 'CREATE SCHEMA IF NOT EXISTS "public";\n'
    other = replace(public, tag="other")
    assert with_public_perhaps_there(other) is other


def test_owners_grants_alone_are_without_options_and_what_others_pass_on():
    own = 'GRANT SELECT ON TABLE t TO "a;b" WITH GRANT OPTION;\nGRANT SELECT ON TABLE t TO c;\n'
    passed_on = "SET SESSION AUTHORIZATION c;\nGRANT SELECT ON TABLE t TO d;\nRESET SESSION AUTHORIZATION;\n"
    acl = entry("ACL", f"REVOKE ALL ON TABLE t FROM o;\n{own}{passed_on}")
    assert grants_alone(acl) == own + passed_on
    assert owners_grants_alone(acl) == own.replace(" WITH GRANT OPTION", "")
    assert owners_grants_alone(with_set_role(acl, {"c"})) == owners_grants_alone(acl)
    assert owners_grants_alone(entry("TABLE", "GRANT SELECT ON TABLE t TO c;\n")) == ""
