# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A short piece of the program that goes on trying to break a handover, and whether it would see what is broken."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from faults import await_that
from support import ROOT

from benchmarks.chaos.invariants import Before, OneHome, Secrets, accepts
from benchmarks.chaos.ledger import Ledger
from benchmarks.chaos.stage import Stage


def test_a_short_piece_of_it(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "chaos.py", "--seed", "3", "--faults", "3", "--lanes", "1"]
    done = subprocess.run(
        [*command, "--pairs", "15:18", "--keep", tmp_path / "kept"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "violated: none" in done.stdout


@pytest.fixture
def stage(run_directory):
    made = Stage(run_directory / "stage", (15, 15))
    yield made
    made.close()


def test_it_sees_what_is_broken(stage, tmp_path):
    stage.begin()
    before, homes, secrets = Before(stage), OneHome(stage), Secrets(stage, tmp_path)
    ledger = Ledger(stage, 1)
    try:
        await_that(lambda: len(ledger.scans.states) > 2, "documents")
        assert ledger.progress(20) == "" and ledger.problems("source") == []
        stage.sql("source", "DELETE FROM bank.ledger WHERE number = 1")
        stage.sql(
            "source",
            "INSERT INTO bank.transfer (run, client, number, payer, payee, amount)"
            " SELECT run, client, number, payer, payee, amount FROM bank.transfer WHERE number = 2",
        )
        stage.sql("source", "SELECT lo_unlink(document) FROM bank.scan ORDER BY number DESC LIMIT 1")
        found = " ".join(ledger.problems("source"))
        for words in ("lost though acknowledged", "twice", "holds", "without its content"):
            assert words in found, found

        assert before.source() == []
        for side in ("source", "target"):
            if side == "target":
                stage.sql(side, "CREATE DATABASE shop", "postgres")
                stage.sql(side, "CREATE SCHEMA bank CREATE TABLE probe (id integer PRIMARY KEY, n bigint)")
            stage.sql(
                side,
                "CREATE TRIGGER handover_fence BEFORE UPDATE ON bank.probe FOR EACH ROW EXECUTE FUNCTION"
                " suppress_redundant_updates_trigger()",
            )
        assert accepts(stage, "target")
        await_that(lambda: homes.found, "that both ends take writes")
        assert any("handover_fence" in text for text in before.source())
        assert any("handover_fence" in text for text in before.target())

        shown = subprocess.Popen(["sleep", "100"], env={"WORD": stage.clerk["password"]})
        (tmp_path / "file").write_text(f"a line\nwith {stage.pooler.password}\n")
        await_that(lambda: secrets.found, "the password in an environment")
        shown.kill()
        secrets.look_at_files()
        assert any("sleep" in text for text in secrets.found) and any("file" in text for text in secrets.found)
    finally:
        homes.stop()
        secrets.stop()
        ledger.stop()
