# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrations of which an end was upgraded in place: it has another identity, another address, and what was in it."""

from __future__ import annotations

import os
import subprocess

import pytest
from cutovers import cut_over
from dumps import done, refused
from migrations import in_step, migrate, traces
from support import create_database, shared_directory

from lab.cluster import HBA, unprivileged

OPTIONS = {"settings": {"shared_buffers": "16MB"}, "hba": ("local all all trust", *HBA)}  # pg_upgrade comes by socket


@pytest.fixture
def upgraded(new_cluster, run_directory):
    """``upgraded(cluster, 17)`` is a server of that major with what the cluster had, which is stopped."""

    def make(old, major):
        new = new_cluster(major, **OPTIONS)
        new.stop()
        old.stop()
        new.password = old.password
        place = shared_directory(run_directory, f"upgrade-{old.port}-{new.port}")
        command = [
            new.build.program("pg_upgrade"), "-U", "postgres", "--link",
            "-b", str(old.build.bin), "-B", str(new.build.bin), "-d", str(old.data), "-D", str(new.data),
        ]  # fmt: skip
        environment = {
            "PATH": os.defpath,
            "HOME": str(place),
            "PGPASSWORD": old.password,
            "LC_ALL": "C.UTF-8",
            **old.build.environment,
            **new.build.environment,
        }
        ran = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, check=False, **unprivileged()
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        new.start()
        return new

    return make


def end(source, target, state, **more):
    return migrate(source, target, **{"databases": ["shop"], "state": state, "without_cutover": True, **more})


def test_what_an_upgraded_source_and_its_target_hold_is_removed(servers, new_cluster, upgraded):
    old, target = new_cluster(15, **OPTIONS), servers(17, "target")
    create_database(old, "shop")
    old.sql("shop", "CREATE TABLE t (v text); INSERT INTO t VALUES ('a')")
    in_step(old, target, databases=["shop"], no_identity="full")
    source = upgraded(old, 17)
    assert traces(source, "shop") and traces(target, "shop")
    refused(cut_over(source, target), "no journal")
    for state in ("stopped", "finished"):
        for check in (True, False):
            [found] = done(end(source, target, state, check=check)).databases
            assert found["changed"] and any("pg_upgrade" in text for text in found["notices"]), found
    assert traces(source, "shop") == traces(target, "shop") == []
    assert source.sql("shop", "SELECT relreplident FROM pg_class WHERE relname = 't'") == [("d",)]
    assert not done(end(source, target, "finished")).changed


def test_what_cannot_be_matched_is_named(servers):
    source, target = servers(15), servers(17, "target")
    create_database(source, "shop")
    in_step(source, target, databases=["shop"])
    create_database(source, "blog")
    before = traces(source, "shop"), traces(target, "shop")
    for state in ("stopped", "finished"):
        other = {"databases": ["blog"], "rename": {"blog": "shop"}}
        origin = f'from 127.0.0.1:{source.port}, database "shop"'
        refused(end(source, target, state, **other), origin, "Nothing was removed")
    assert (traces(source, "shop"), traces(target, "shop")) == before

    target.sql("shop", "DROP SCHEMA handover CASCADE")
    source.sql("shop", "DROP SCHEMA handover CASCADE")
    source.sql("shop", "CREATE PUBLICATION handover_bbbbbbbbbb_w1")
    [found] = done(end(source, target, "stopped")).databases
    assert found["left"]["source"] == ['DROP PUBLICATION "handover_bbbbbbbbbb_w1"']
    again = refused(end(source, target, "stopped"), "handover_bbbbbbbbbb_w1", "Run these statements")
    assert not again.changed
    assert traces(target, "shop") == [] and traces(source, "shop") == ["publication handover_bbbbbbbbbb_w1"]
