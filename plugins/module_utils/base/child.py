# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Child programs: pg_dump, pg_restore. They end when we do, whatever ends us."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint

PR_SET_PDEATHSIG = 1
_PRCTL = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None
LOOK_AFTER_WORKERS = 1.0  # seconds


class Program:
    """A client program at work against an endpoint. Make it in the main thread only, and see that it is closed."""

    def __init__(self, argv: list[str], endpoint: Endpoint) -> None:
        with contextlib.ExitStack() as stack:
            environment, descriptors = stack.enter_context(endpoint.child_environment())
            self._process = subprocess.Popen(
                argv,
                env=environment,
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                preexec_fn=_lead_and_die_with_parent,  # the kernel ties it to the thread that forks: the main thread
            )
            self._secrets = stack.pop_all()

    def end(self) -> tuple[int, str]:
        """Wait for it: (return code, standard error)."""
        return _read(self._process)

    def close(self) -> None:
        """End it, if it has not ended."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.communicate()
        self._secrets.close()


def run(argv: list[str], endpoint: Endpoint) -> tuple[int, str]:
    """Run a client program against an endpoint: (return code, standard error). Call it from the main thread only."""
    with contextlib.closing(Program(argv, endpoint)) as program:
        return program.end()


def describe_end(status: int) -> str:
    """How a program without a word of its own ended, by its return code."""
    return f"it was killed by {signal.Signals(-status).name}" if status < 0 else f"it ended with status {status}"


def _read(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """What it wrote. Workers whose leader was killed would go on and hold the pipe: they are told to end."""
    while True:
        try:
            _output, errors = process.communicate(timeout=LOOK_AFTER_WORKERS)
        except subprocess.TimeoutExpired:
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                os.killpg(process.pid, signal.SIGTERM)
        else:
            return process.returncode, errors.decode("utf-8", errors="replace")


def _lead_and_die_with_parent() -> None:
    os.setpgid(0, 0)
    if _PRCTL is not None:
        _PRCTL(PR_SET_PDEATHSIG, signal.SIGTERM)
