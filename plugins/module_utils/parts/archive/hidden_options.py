# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of user mappings, which servers show to nobody else (PostgreSQL documentation, 53.63): often passwords."""

from __future__ import annotations

import re

from ansible_collections.handover.postgresql.plugins.module_utils.base.secrets import MASK

LITERAL = r"'(?:[^']|'')*'"
MAPPING = re.compile(
    rf"""(USER\s+MAPPING\s(?:[^"';]|"(?:[^"]|"")*")*?\sOPTIONS\s*\()((?:[^')]|{LITERAL})*)""", re.IGNORECASE
)


def without_hidden_options(text: str) -> str:
    """Statements as messages, results and journals may have them."""
    return MAPPING.sub(lambda found: found.group(1) + re.sub(LITERAL, f"'{MASK}'", found.group(2)), text)
