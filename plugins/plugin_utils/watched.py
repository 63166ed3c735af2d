# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module that may work for hours under Ansible's async wrapper, and says meanwhile how far it is.

plugins/action/ has a file for each of them, as Ansible takes the action that has the module's name. The module writes
a file (module_utils/base/progress.py); a shell command waits for its end, or for the next look, so that a look costs no
start of Python on the host.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import time
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.progress import (
    LEASE,
    PROGRESS_FILE,
    WATCHED_FILE,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.quantities import seconds_of
from ansible_collections.handover.postgresql.plugins.plugin_utils.progress_lines import ProgressLines

DEFAULT = "15s"
LONGEST = 10**7  # seconds; the async wrapper wants a limit
BETWEEN_CONNECTIONS = 5.0  # seconds
LATEST_LOOK = LEASE / 4
# Often at first, so that a short run is not made longer.
WAIT = """
echo {watcher} > {watched}; n=0
runs() {{ head -c 300 {job} 2> /dev/null | grep -q '"finished": *\\(0\\|false\\)'; }}
while runs && [ $n -lt {tenths} ]; do
  if [ $n -lt 50 ]; then sleep 0.2; n=$((n + 2)); else sleep 1; n=$((n + 10)); fi
done
if runs; then echo runs; cat {progress} 2> /dev/null || :; else echo ended; cat {job}; fi
"""
ENCODED = "__ansible_type"  # what only Ansible itself can read
OF_THE_WRAPPER = ("ansible_job_id", "results_file", "started", "finished", "_ansible_suppress_tmpdir_delete")


class WatchedAction(ActionBase):
    """Of the modules that have the option progress."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        """The module's result; ``async`` of the task itself is as for any module."""
        result = super().run(tmp, task_vars)
        interval = self._interval()
        if interval and not self._task.async_val and self._can_be_watched(task_vars):
            return {**result, **self._watched(interval, task_vars)}
        return {**result, **self._execute_module(task_vars=task_vars, wrap_async=bool(self._task.async_val))}

    def _can_be_watched(self, task_vars: dict[str, Any]) -> bool:
        """The wrapper's command line does not quote the paths in it."""
        if self._connection.has_native_async or self._is_become_unprivileged():
            return False
        if self._connection._shell.tmpdir is None:
            self._make_tmp_path()
        delegated = (task_vars.get("ansible_delegated_vars") or {}).get(self._task.delegate_to)
        interpreter = self._templar.template((delegated or task_vars).get("ansible_python_interpreter") or "")
        return not re.search(r"\s", f"{interpreter}{self._connection._shell.tmpdir}")

    def _interval(self) -> float:
        try:
            given = self._task.args.get("progress")
            return seconds_of("progress", DEFAULT if given in (None, "") else given) or 0.0
        except HandoverError as error:
            raise AnsibleActionFail(str(error)) from None

    def _watched(self, interval: float, task_vars: dict[str, Any]) -> dict[str, Any]:
        directory = self._connection._shell.tmpdir
        job = self._start(task_vars)
        if "ansible_job_id" not in job:
            return job
        lines = ProgressLines(task_vars.get("inventory_hostname", ""), Display().verbosity > 0)
        while (text := self._look(directory, job["results_file"], min(interval, LATEST_LOOK), lines)) is None:
            pass
        return self._collect(job, text, task_vars)

    def _start(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        self._task.async_val = LONGEST
        try:
            return self._execute_module(task_vars=task_vars, wrap_async=True)
        finally:
            self._task.async_val = 0

    def _look(self, directory: str, job: str, interval: float, lines: ProgressLines) -> str | None:
        """Wait for the end, but no longer than the interval, and show how far it is. None if it still runs, else what
        it left.
        """
        local = self._connection.transport == "local"
        command = WAIT.format(
            watcher=os.getpid() if local else "",
            watched=shlex.quote(f"{directory}/{WATCHED_FILE}"),
            progress=shlex.quote(f"{directory}/{PROGRESS_FILE}"),
            job=shlex.quote(job),
            tenths=round(interval * 10),
        )
        state, _newline, text = self._patiently(command).partition("\n")
        if state.strip() == "ended":
            return text
        try:
            seen, _end = json.JSONDecoder().raw_decode(text)  # ssh may say a word of its own behind it
        except ValueError:  # not written yet
            return None
        for line in lines.of(seen, time.monotonic()) if not self._task.no_log else ():
            Display().display(line)
        return None

    def _patiently(self, command: str) -> str:
        """What the command prints. A connection that breaks is made anew as long as the module waits for a look."""
        deadline = time.monotonic() + LEASE
        while True:
            try:
                return self._low_level_execute_command(command)["stdout"]
            except AnsibleConnectionFailure:
                if time.monotonic() > deadline:
                    raise
                time.sleep(BETWEEN_CONNECTIONS)
                with contextlib.suppress(AnsibleConnectionFailure):  # then the next attempt says so
                    self._connection.reset()

    def _collect(self, job: dict[str, Any], text: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The module's result, as if it had been run without the wrapper; ``text`` is what the wrapper left of it."""
        result = self._read(job, text) or self._ask_for_result(job, task_vars)
        self._low_level_execute_command(f"rm -f {shlex.quote(job['results_file'])}")
        return {name: value for name, value in result.items() if name not in OF_THE_WRAPPER}

    def _read(self, job: dict[str, Any], text: str) -> dict[str, Any] | None:
        """Without another module, which takes longer to start than to read it; None of what is not as is known."""
        try:
            result, _end = json.JSONDecoder().raw_decode(text.lstrip())  # ssh may say a word of its own behind it
        except ValueError:
            return None
        if not isinstance(result, dict) or "invocation" not in result or ENCODED in text:
            return None
        found = {name: job[name] for name in ("ansible_facts", "warnings", "deprecations") if job.get(name)}
        return {**found, **{name: one for name, one in result.items() if not name.startswith("_ansible")}}

    def _ask_for_result(self, job: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        arguments = {"jid": job["ansible_job_id"], "mode": "status", "_async_dir": os.path.dirname(job["results_file"])}
        return self._execute_module("ansible.builtin.async_status", arguments, task_vars=task_vars)
