# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of what a migration makes on the servers: the same from any machine, told from an operator's at a glance."""

from __future__ import annotations

import hashlib

from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import Server

PREFIX = "handover_"
SCHEMA = "handover"


def migration_id(source: Server, source_dbname: str, target: Server, target_dbname: str) -> str:
    """Ten hexadecimal digits that stand for this database of this server and its new home."""
    pair = f"{source.system_identifier}/{source_dbname}>{target.system_identifier}/{target_dbname}"
    return hashlib.sha256(pair.encode()).hexdigest()[:10]


def wave_name(identifier: str, number: int) -> str:
    """Name of the publication, the slot and the subscription of a wave."""
    return f"{PREFIX}{identifier}_w{number}"


def back_name(identifier: str) -> str:
    """Name of the publication, the slot and the subscription that lead back to the source after the cutover."""
    return f"{PREFIX}{identifier}_back"


def identifier_of(name: str) -> str:
    """The migration to which a publication, a slot or a subscription of that name belongs."""
    return name[len(PREFIX) :].partition("_")[0]


def trial_name(identifier: str) -> str:
    """Name of a subscription that is never kept, and of a publication that there never is."""
    return f"{PREFIX}{identifier}_trial"


def owners_name(identifier: str) -> str:
    """Name of the role through which the owner of the subscriptions is a member of the tables' owners."""
    return f"{PREFIX}{identifier}_owners"


def applier_name(identifier: str) -> str:
    """Name of the role as which changes are applied to tables that their owners may not write."""
    return f"{PREFIX}{identifier}_apply"


def beacon_table(name: str) -> str:
    """Name of the beacon's table in schema handover that belongs to a publication."""
    return f"beacon_{name[len(PREFIX) :]}"
