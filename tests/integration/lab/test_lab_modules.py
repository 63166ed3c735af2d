# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that begin warm are processes like those that begin cold."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest
from faults import await_that, watching
from support import start_module


@pytest.fixture(params=["warm", "cold"])
def waiting(request, servers, database, tmp_path):
    """An export that waits for its snapshot, which a serializable transaction keeps from it."""
    server = servers(15)
    name = database(server)
    with contextlib.closing(server.connect(autocommit=False)) as session, watching(server) as watch:
        session.set_session(isolation_level="SERIALIZABLE")
        session.cursor().execute("SELECT 1")
        arguments = {"source": server.endpoint(), "databases": [name], "dump_directory": str(tmp_path)}
        running = start_module("pg_dump_export", arguments, cold=request.param == "cold")
        waits = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SafeSnapshot'"
        await_that(lambda: watch.ask(waits) or running.process.poll() is not None, "the wait for a safe snapshot")
        yield running
        running.kill_family()


def test_a_process_of_its_own(waiting):
    assert waiting.process.poll() is None
    assert os.getsid(waiting.pid) == os.getpgid(waiting.pid) == waiting.pid != os.getsid(0)
    assert set(waiting.family()) == {waiting.pid}
    assert os.readlink(f"/proc/{waiting.pid}/cwd") == "/"
    files = [os.readlink(place) for place in Path(f"/proc/{waiting.pid}/fd").iterdir()]
    assert len([name for name in files if name.startswith("socket:")]) == 1, "that of its session"
    waiting.process.send_signal(signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.process.wait(0.1)
    waiting.process.send_signal(signal.SIGCONT)
    waiting.process.terminate()
    assert waiting.process.wait(60) == 128 + signal.SIGTERM
    assert waiting.family() == {}


def test_a_kill(waiting):
    waiting.kill()
    assert waiting.process.returncode == -signal.SIGKILL
    await_that(lambda: not waiting.family(), "the end of its children")


@pytest.mark.parametrize("cold", [False, True])
def test_output_and_exit_status(cold):
    running = start_module("pg_dump_export", {"unknown_option": 1}, cold=cold)
    assert running.wait().failed
    assert (running.process.returncode, running.stderr) == (1, "")


def test_what_python_reads_as_it_begins_is_read(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(7)")
    running = start_module("pg_dump_export", {}, env={"PYTHONPATH": str(tmp_path)})
    assert running.process.wait(60) == 7
