# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a report, and brings the page of the pair up to date, which is made here: only the controller has Jinja."""

from __future__ import annotations

import getpass
import json
import socket
from datetime import datetime, timezone

from ansible.plugins.action import ActionBase

from ansible_collections.handover.postgresql.plugins.module_utils.methods.report_files import digest
from ansible_collections.handover.postgresql.plugins.plugin_utils.page import store
from ansible_collections.handover.postgresql.plugins.plugin_utils.page.page import as_html

ATTEMPTS = 5  # others may write the same page


class ActionModule(ActionBase):
    """See plugins/modules/write_report.py."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """The module's result; the page is no part of it."""
        super().run(tmp, task_vars)
        written = self._write(self._task.args, task_vars)
        page = written.pop("page", None)
        args = self._task.args
        if not args.get("pair") or written.get("failed") or self._task.check_mode:
            return written
        run = {"playbook": args.get("playbook", args.get("kind")), "by": _who(task_vars), "at": _now()}
        data = json.loads(json.dumps(args.get("data"), default=str))  # plain types, as a file would have them
        for _attempt in range(ATTEMPTS):
            shown = store.merged(store.read(page), args["pair"], args.get("kind"), data, run)
            place = {name: args[name] for name in ("report_directory", "pair")}
            told = self._write({**place, "page": as_html(shown), "former_page": digest(page)}, task_vars)
            if not told.get("stale"):
                break
            page = told.get("page")
        return {**written, **_failure(told)}

    def _write(self, args, task_vars):
        return self._execute_module("handover.postgresql.write_report", module_args=args, task_vars=task_vars)


def _failure(told):
    """What the result says where the page could not be written."""
    return {name: told[name] for name in ("failed", "msg", "exception") if name in told} if told.get("failed") else {}


def _now():
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _who(task_vars):
    """Who runs the playbook, and where: what AWX says, or the system."""
    for prefix in ("awx", "tower"):
        if task_vars.get(f"{prefix}_user_name"):
            return f"{task_vars[f'{prefix}_user_name']}, job {task_vars.get(f'{prefix}_job_id', '?')}"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user that has no name
        user = "somebody"
    return f"{user} on {socket.gethostname()}"
