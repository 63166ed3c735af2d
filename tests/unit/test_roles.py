# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles without a server: stored lists, the order of grants, password hashes, reserved names."""

from __future__ import annotations

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.passwords import belongs_to, hash_kind
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.role_data import (
    database_settings,
    in_grant_order,
    parameter_elements,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.role_import import RESERVED

# RFC 7677, section 3: user "user", password "pencil"; the verifier is computed from the exchange printed there.
PENCIL = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


@pytest.mark.parametrize(
    ("name", "stored", "elements"),
    [
        ("search_path", '"$user", public', ["$user", "public"]),
        ("search_path", '"A ""b"" , c",d', ['A "b" , c', "d"]),
        ("search_path", "Public", ["public"]),
        ("search_path", '""', [""]),
        ("search_path", "", []),
        ("Search_Path", "a, b", ["a", "b"]),
        ("local_preload_libraries", "Lib/A, b", ["Lib/A", "b"]),
        ("work_mem", "64MB", ["64MB"]),
        ("app.list", "a, b", ["a, b"]),
    ],
)
def test_stored_parameter_becomes_the_elements_it_was_set_to(name, stored, elements):
    assert parameter_elements(name, stored) == elements


def membership(role, member, grantor, admin=False, options=True):
    given = True if options else None
    return {"role": role, "member": member, "grantor": grantor, "admin": admin, "inherit": given, "set": given}


def test_grantors_come_before_what_they_granted():
    chain = [
        membership("g", "a", "c"),
        membership("g", "c", "b", admin=True),
        membership("g", "b", "boss", admin=True),
        membership("h", "x", "gone"),
    ]
    ordered = in_grant_order({"roles": [{"name": "boss", "bootstrap": True}], "memberships": chain})
    assert [row["member"] for row in ordered] == ["b", "c", "a", "x"]


def test_grantors_of_old_majors_do_not_order_anything():
    rows = [membership("g", "a", "c", options=False), membership("g", "c", "boss", admin=True, options=False)]
    assert in_grant_order({"roles": [], "memberships": rows}) == rows


def test_kinds_of_stored_passwords():
    assert hash_kind(PENCIL) == "scram-sha-256"
    assert hash_kind("md5" + "0" * 32) == "md5"
    assert hash_kind("********") is None
    assert hash_kind("md5 is not safe") is None


def test_verifier_knows_its_password():
    assert belongs_to(PENCIL, "pencil")
    assert belongs_to(PENCIL, "pen\u00adcil"), "SASLprep drops the soft hyphen"
    assert belongs_to(PENCIL, "ｐｅｎｃｉｌ"), "SASLprep folds the wide letters"
    assert not belongs_to(PENCIL, "Pencil")
    assert not belongs_to("md5" + "0" * 32, "pencil")
    assert not belongs_to("", "pencil")


@pytest.mark.parametrize("name", ["rdsadmin", "rds_superuser", "cloudsqladmin", "azure_pg_admin", "azuresu", "doadmin"])
def test_names_of_providers_are_reserved(name):
    assert RESERVED.fullmatch(name)


@pytest.mark.parametrize("name", ["rdsapp", "azure", "app", "my_cloudsql", "postgres", "doadmin2"])
def test_names_of_applications_are_not(name):
    assert not RESERVED.fullmatch(name)


def test_settings_of_one_database():
    settings = [
        {"role": None, "database": "a b", "name": "work_mem", "value": "1MB"},
        {"role": "r", "database": "a b", "name": "work_mem", "value": "2MB"},
        {"role": "r", "database": None, "name": "work_mem", "value": "3MB"},
        {"role": "r", "database": "c", "name": "work_mem", "value": "4MB"},
    ]
    assert database_settings({"settings": settings}, "a b") == settings[:2]
