# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signs of the service that a server belongs to. For people to read: nothing is ever decided by them."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows

# Settings, roles and available extensions that a vanilla server does not have.
SIGNS = {
    "Aiven": r"setting (aiven|pg_aiven)\..*|role (avnadmin|_aiven.*)|extension aiven_extras",
    "Akamai": r"role (akmadmin|linpostgres)",
    "Amazon RDS or Aurora": r"setting (rds|apg|aurora)[._].*|role (rdsadmin|rds_superuser)|extension aws_(commons|s3)",
    "Azure": r"setting azure[._].*|role (azuresu|azure_pg_admin)|extension azure.*",
    "Crunchy Bridge": r"role crunchy_.*",
    "DigitalOcean": r"role (doadmin|_dodb.*)",
    "Google Cloud SQL": r"setting cloudsql\..*|role cloudsql(admin|superuser)",
    "Google AlloyDB": r"setting alloydb\..*|role alloydb(admin|superuser)",
    "Neon": r"setting neon\..*|role (neon_superuser|cloud_admin)|extension neon.*",
    "Supabase": r"role supabase_.*|extension (supabase_vault|pg_graphql)",
    "Timescale Cloud": r"role tsdb(admin|owner)",
}
SHOWN = 5  # signs of one provider


def provider_hints(connection: Connection) -> list[dict[str, Any]]:
    """``[{"provider": "Azure", "signs": ["role azuresu", ...]}]``; a vanilla server has none."""
    query = """
        SELECT 'setting ' || name FROM pg_settings
        UNION ALL SELECT 'role ' || rolname FROM pg_roles
        UNION ALL SELECT 'extension ' || name FROM pg_available_extensions
        ORDER BY 1"""
    there = [sign for (sign,) in rows(connection, query)]
    found = {provider: [sign for sign in there if re.fullmatch(pattern, sign)] for provider, pattern in SIGNS.items()}
    return [{"provider": provider, "signs": signs[:SHOWN]} for provider, signs in found.items() if signs]
