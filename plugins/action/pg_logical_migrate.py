# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module of this name, and shows meanwhile how far it is."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.plugin_utils.watched import WatchedAction


class ActionModule(WatchedAction):
    """See plugins/modules/pg_logical_migrate.py."""
