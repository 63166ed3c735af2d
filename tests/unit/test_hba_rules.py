# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom lines of pg_hba.conf let in."""

from __future__ import annotations

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.facts.hba_rules import HbaClient, Rule, admits


def rule(text: str) -> Rule:
    """``type databases roles address/netmask method`` as pg_hba_file_rules has them."""
    kind, databases, roles, place, method = text.split()
    address, _slash, netmask = place.partition("/")
    return Rule("pg_hba.conf:1", kind, databases.split(","), roles.split(","), address, netmask or None, method, None)


NARROW = "host shop app 10.1.0.0/255.255.0.0 scram-sha-256"


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        ([], False),
        ([NARROW], True),
        (["host all all all scram-sha-256"], True),
        (["host all all all reject", NARROW], False),
        ([NARROW, "host all all all reject"], True),
        (["host all all all cert"], False),
        (["hostnossl all all all md5"], False),
        (["hostssl all all all md5"], True),
        (["hostgssenc all all all md5"], False),
        (["local all all all trust"], False),
        (["host replication all all md5"], False),
        (["host other all all md5"], False),
        (["host sameuser all all md5"], False),
        (["host samerole all all md5"], True),
        (["host all +shop all md5"], True),
        (["host all +staff all md5"], False),
        (["host /^sh all all md5"], True),
        (["host all /^b all md5"], False),
        (["host all all 10.2.0.0/255.255.0.0 md5"], False),
        (["host all all fe80::/ffff:: md5", NARROW], True),
        (["host all all db.example.com md5"], None),
        (["host all all samenet md5", NARROW], None),
        (["host all all db.example.com reject", NARROW], None),
    ],
)
def test_first_line_that_matches_decides(lines, answer):
    client = HbaClient("app", frozenset({"app", "shop"}), "shop", "10.1.2.3/32", tls=True)
    assert admits([rule(line) for line in lines], client) is answer


def test_a_network_has_to_be_let_in_whole():
    client = HbaClient("app", frozenset({"app"}), "shop", "10.0.0.0/8", tls=False)
    assert admits([rule(NARROW)], client) is False
    assert admits([rule("host all all 127.0.0.0/255.0.0.0 md5")], client) is False
    loopback = HbaClient("app", frozenset({"app"}), "shop", "127.0.0.1/32", tls=False)
    assert admits([rule("host all all samehost md5")], loopback) is True
