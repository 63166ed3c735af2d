# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions that are ended from outside, whatever they wait for."""

from __future__ import annotations

import contextlib
import os
import socket

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, psycopg2


def cut(session: Connection) -> None:
    """End a session at once, whatever it waits for: a server rolls back what is open, and PgBouncer takes it for the
    end of a wish to pause.
    """
    with contextlib.suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(session.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
