# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Continuously: a database is handed over while clients write to it all the time."""

from __future__ import annotations

import time

from lab import compare, sample
from lab.cluster import Cluster
from lab.demo.clients import PASSWORD, PURCHASES, TRANSFERS, Clients
from lab.demo.stage import DEMO, DemoError, Stage, play
from lab.terminal import amount, good, heading, line, megabytes

DATABASE = "store"
SCALE = 0.3
VIEWS = "materialized views"  # as lab.compare calls them

INVENTORY = """\
# As shop.yml, for a database that is in use. README.md says what else may be set.
all:
  hosts:
    {database}:
{pair}

      handover_databases: [{database}]
      handover_no_identity: full  # where a table has no key, all its columns together identify a row

      # The role and the way by which the target fetches changes from the source, for the playbook prepare_source.
      handover_target_addresses: [127.0.0.1]
      handover_replication_tls: false  # on loopback
      handover_replication_password_file: {replication}

      handover_dump_directory: {dump}  # of the roles
      handover_report_directory: {reports}
      handover_client_directory: [{clients}]
"""


def demonstrate(stage: Stage) -> None:
    """Make the sample, let clients write to it, and hand it over while they go on."""
    heading("Now a database that is in use")
    with stage.times.measured("second sample"):
        made = sample.create(stage.source.connect, DATABASE, SCALE, prefix=DATABASE, password=PASSWORD)
    line("sample", f"database {DATABASE}: {amount(made['tables'], 'tables')}, {amount(made['rows'], 'rows')}, "
                   f"{megabytes(made['bytes'])}")  # fmt: skip
    places = {"dump": DEMO / "roles", "replication": DEMO / "replication_password"}
    stage.write_inventory(DATABASE, INVENTORY, database=DATABASE, **places)
    with Clients(stage.source, stage.target, DATABASE) as clients:
        line("clients", f"{clients.number} write from now on, {TRANSFERS + PURCHASES} transactions a second")
        step(stage, clients, "preflight", "Before anything is touched")
        step(stage, clients, "prepare_source", "The source is made ready for logical replication")
        step(stage, clients, "replicate", "It is copied; what clients write meanwhile follows")
        step(stage, clients, "status", "How it is doing, from any machine")
        clients.stop()
        heading("The clients stop, and both ends are compared")
        clients.tell()
        with stage.times.measured("second comparison"):
            compare_ends(stage)


def step(stage: Stage, clients: Clients, name: str, title: str) -> None:
    """A playbook, while clients go on; none of them may notice."""
    heading(title)
    with stage.times.measured(name):
        play(DATABASE, name, DEMO / f"{DATABASE}-{name}.log")
    clients.tell()
    if clients.failures:
        raise DemoError(f"A client was refused something: {clients.failures[0]}")


def compare_ends(stage: Stage) -> None:
    """Both databases hold the same, once everything has arrived. DemoError: they do not."""
    await_arrival(stage.source)
    before, after = compare.read_both(stage.source.connect, stage.target.connect, DATABASE)
    if different := [text for text in compare.differences(before, after) if not is_expected(text, before)]:
        place = DEMO / f"{DATABASE}-differences"
        place.write_text("\n".join(different), encoding="utf-8")
        shown = "\n".join(f"  {text[:200]}" for text in different[:10])
        raise DemoError(f"{amount(len(different), 'things')} differ, listed in {place}:\n{shown}")
    rows = sum(count for name, (count, _digest) in before.tables.items() if name not in before.objects[VIEWS])
    objects = sum(map(len, before.objects.values())) - len(before.objects["sequences"])
    line("demo", f"{good('all equal:')} {amount(rows, 'rows')} of {amount(len(before.tables), 'tables')}, by digests; "
                 f"{amount(objects, 'objects')}, each with its definition, owner, privileges")  # fmt: skip


def is_expected(difference: str, before: compare.Contents) -> bool:
    """Positions of sequences follow at the cutover, materialized views when they are refreshed."""
    name = difference.removeprefix("rows of ").partition(": ")[0]
    return difference.startswith("sequences ") or name in before.objects[VIEWS]


def await_arrival(publisher: Cluster, timeout: float = 30) -> None:
    """Wait until whoever follows this server has confirmed all that it wrote so far."""
    [(end,)] = publisher.sql("postgres", "SELECT pg_current_wal_lsn()")
    deadline = time.monotonic() + timeout
    behind = "SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'logical' AND confirmed_flush_lsn < %s"
    while found := publisher.sql("postgres", behind, [end]):
        if time.monotonic() > deadline:
            raise DemoError(f"{found[0][0]} is still behind {timeout:.0f} seconds after the last write")
        time.sleep(0.1)
