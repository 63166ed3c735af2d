# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Child programs: pg_dump, pg_restore. They end when we do, whatever ends us."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint

PR_SET_PDEATHSIG = 1
_PRCTL = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None


def run(argv: list[str], endpoint: Endpoint) -> tuple[int, str]:
    """Run a client program against an endpoint: (return code, standard error). Call it from the main thread only."""
    with endpoint.child_environment() as (environment, descriptors):
        process = subprocess.Popen(
            argv,
            env=environment,
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=_die_with_parent,  # the kernel ties it to the thread that forks: hence the main thread
        )
        try:
            return _read(process)
        except BaseException:
            process.terminate()
            process.wait()
            raise


def describe_end(status: int) -> str:
    """How a program without a word of its own ended, by its return code."""
    return f"it was killed by {signal.Signals(-status).name}" if status < 0 else f"it ended with status {status}"


def _read(process: subprocess.Popen) -> tuple[int, str]:
    _output, errors = process.communicate()
    return process.returncode, errors.decode("utf-8", errors="replace")


def _die_with_parent() -> None:
    if _PRCTL is not None:
        _PRCTL(PR_SET_PDEATHSIG, signal.SIGTERM)
