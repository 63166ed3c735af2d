# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A reload that is known to work beforehand."""

from __future__ import annotations

import contextlib
import time

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts import configuration


def reload_configuration(source: Endpoint, settings: dict, check_mode: bool) -> dict:
    """Do what pg_configuration_reload documents. Raises HandoverError."""
    with contextlib.closing(source.connect_for_maintenance()) as connection:
        loaded = configuration.is_loaded(connection)
        if not (loaded or check_mode):
            time.sleep(1)  # so that the next run sees that the files were written before they were read
        errors = configuration.errors_in_files(connection)
        if errors is None:
            raise HandoverError(
                "The connecting role may not check the server's files for errors.",
                "Connect as a superuser, or grant it SELECT on pg_hba_file_rules and pg_file_settings.",
            )
        errors += _overridden(connection, settings)
        if errors:
            raise HandoverError(
                f"The server's configuration has errors: {'; '.join(errors)}.",
                "Nothing was reloaded.",
                configuration_errors=errors,
            )
        if not (loaded or check_mode):
            configuration.reload(connection)
    return {"changed": not loaded}


def _overridden(connection, settings: dict) -> list[str]:
    """Settings that another line than the wanted one decides."""
    found = configuration.read_settings(connection, list(settings))
    return [
        f"{one.place or 'no line'} decides {name}, not the line that sets it to {settings[name]}"
        for name, one in found.items()
        if one.configured != one.normal(str(settings[name]))
    ]
