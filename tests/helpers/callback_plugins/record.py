# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what happens in a playbook to the file HANDOVER_TEST_RECORD, one JSON object a line, for the tests to read."""

from __future__ import annotations

import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: record
type: aggregate
short_description: Record results for tests
description: [Records results for tests.]
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "record"
    CALLBACK_NEEDS_ENABLED = True

    play = ""

    def _write(self, event: dict) -> None:
        with open(os.environ["HANDOVER_TEST_RECORD"], "a", encoding="utf-8") as record:
            record.write(json.dumps(event, default=str) + "\n")

    def _task(self, status: str, result, ignored: bool = False) -> None:
        task = getattr(result, "task", None) or result._task  # the underscored names are those of 2.18 and before
        host = getattr(result, "host", None) or result._host
        data = result.result if hasattr(result, "result") else result._result
        names = {"play": self.play, "task": task.get_name(), "action": task.action, "host": host.get_name()}
        self._write({**names, "status": status, "ignored": ignored, "result": data})

    def v2_playbook_on_play_start(self, play) -> None:
        self.play = play.get_name()

    def v2_runner_on_ok(self, result) -> None:
        self._task("ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False) -> None:
        self._task("failed", result, ignore_errors)

    def v2_runner_on_skipped(self, result) -> None:
        self._task("skipped", result)

    def v2_runner_on_unreachable(self, result) -> None:
        self._task("unreachable", result)

    def v2_playbook_on_stats(self, stats) -> None:
        self._write({"stats": {host: stats.summarize(host) for host in stats.processed}})
