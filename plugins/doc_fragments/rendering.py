# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of filters that render something for people."""

from __future__ import annotations


class ModuleDocFragment:
    """``handover.postgresql.rendering``."""

    DOCUMENTATION = r"""
options:
  title:
    description: What the text is about, for example the name of the pair.
    type: str
    default: the migration
  form:
    description: V(text) for a terminal, V(markdown) for a ticket.
    type: str
    choices: [text, markdown]
    default: text
  width:
    description: Width of the text in columns. Longer words are not broken.
    type: int
    default: 100
"""
