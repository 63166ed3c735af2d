# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions as servers print them, without what one major writes and another does not."""

from __future__ import annotations


def of_addresses(definition: str) -> str:
    """SQL: the definition of an index or constraint without the names of operator classes that 19 takes by itself."""
    return f"regexp_replace({definition}, ' ([^ (),]+\\.)?(inet_ops|gist_inet_ops|gist_cidr_ops)(?=[ ,)])', '', 'g')"
