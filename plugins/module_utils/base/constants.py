# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""String constants in SQL that is kept, shown, or run by others: what they say depends on no session's settings."""

from __future__ import annotations


def constant(text: str) -> str:
    """The text as SQL: with standard_conforming_strings off a backslash means something in '', and in E'' always."""
    doubled = text.replace("'", "''")
    return f"E'{doubled}'".replace("\\", "\\\\") if "\\" in text else f"'{doubled}'"
