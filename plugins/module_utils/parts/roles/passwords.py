# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stored passwords: of which kind a hash is, how a plaintext becomes one, whether one belongs to a plaintext."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import stringprep
import unicodedata

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2

SCRAM = re.compile(r"^SCRAM-SHA-256\$(?P<iterations>\d+):(?P<salt>[^$:]+)\$(?P<stored>[^$:]+):(?P<server>[^$:]+)$")
MD5 = re.compile(r"^md5[0-9a-f]{32}$")


def hash_kind(stored: str) -> str | None:
    """``scram-sha-256``, ``md5``, or None for what PostgreSQL would not take for a hash."""
    if SCRAM.match(stored):
        return "scram-sha-256"
    return "md5" if MD5.match(stored) else None


def scram_verifier(conn, role: str, password: str) -> str:
    """What the server may store and log instead of the password (libpq's PQencryptPasswordConn)."""
    return psycopg2.extensions.encrypt_password(password, role, scope=conn, algorithm="scram-sha-256")


def belongs_to(stored: str, password: str) -> bool:
    """Whether a SCRAM verifier was made from this password (RFC 5802, section 3). False for any other hash."""
    parts = SCRAM.match(stored)
    if not parts:
        return False
    salt = base64.b64decode(parts["salt"])
    salted = hashlib.pbkdf2_hmac("sha256", _saslprep(password).encode(), salt, int(parts["iterations"]))
    client_key = hmac.new(salted, b"Client Key", hashlib.sha256).digest()
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), base64.b64decode(parts["stored"]))


def _saslprep(password: str) -> str:
    """RFC 4013 as PostgreSQL applies it: a password that it forbids is used as it is."""
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in password if not stringprep.in_table_b1(char)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    return password if not prepared or any(map(_is_forbidden, prepared)) or _mixes_directions(prepared) else prepared


def _is_forbidden(char: str) -> bool:
    tables = (
        stringprep.in_table_a1,
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
    )
    return any(table(char) for table in tables)


def _mixes_directions(text: str) -> bool:
    """RFC 3454, section 6: right-to-left text may hold no left-to-right character and begins and ends as it is."""
    if not any(map(stringprep.in_table_d1, text)):
        return False
    framed = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return not framed or any(map(stringprep.in_table_d2, text))
