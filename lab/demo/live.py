# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Continuously: a database is handed over while clients write to it all the time."""

from __future__ import annotations

import re
import time

from lab import compare, sample
from lab.builds import CHECKOUT
from lab.cluster import Cluster
from lab.demo.clients import PASSWORD, PURCHASES, TRANSFERS, Clients
from lab.demo.stage import DEMO, REPORTS, DemoError, Stage, Times, play, psql, quoted, report
from lab.terminal import amount, command, good, heading, line, megabytes

DATABASE = "store"
SCALE = 0.3
VIEWS = "materialized views"  # as lab.compare calls them

INVENTORY = """\
# One host of the inventory is one pair of source and target; the database of this one is in use. README.md says what
# else may be set.
all:
  hosts:
    {database}:
{pair}

      handover_databases: [{database}]
      handover_no_identity: full  # where a table has no key, all its columns together identify a row
{poolers}
      # The role and the way by which the target fetches changes from the source, for the playbook prepare_source.
      handover_target_addresses: [127.0.0.1]
      handover_replication_tls: false  # on loopback
      handover_replication_password_file: {replication}

      handover_dump_directory: {dump}  # of the roles
      handover_report_directory: {reports}
      handover_client_directory: [{clients}]
"""
POOLERS = """
      # PgBouncers before the database, by their admin consoles: they let clients wait while the cutover lasts.
      handover_poolers:
        - host: 127.0.0.1
          port: {port}
          user: {user}
          passfile: {passfile}
          config_file: {config}
"""


def demonstrate(stage: Stage, with_rollback: bool = False) -> None:
    """Make the sample, let clients write to it, hand it over while they go on, and back in between if asked to."""
    heading("Now a database that is in use")
    stage.times = Times()
    with stage.times.measured("sample"):
        made = sample.create(stage.source.connect, DATABASE, SCALE, prefix=DATABASE, password=PASSWORD)
    line(
        "sample",
        f"database {DATABASE}: {amount(made['tables'], 'tables')}, {amount(made['rows'], 'rows')}, "
        f"{megabytes(made['bytes'])}",
    )
    with Clients(stage.source, stage.target, DATABASE) as clients:
        line("clients", f"{clients.number} write from now on, {TRANSFERS + PURCHASES} transactions a second")
        write_inventory(stage, clients)
        hand_over(stage, clients, with_rollback)
        heading("The clients stop")
        clients.stop()
        contents = look_afterwards(stage, clients)
    summarize(stage, clients, contents)


def write_inventory(stage: Stage, clients: Clients) -> None:
    """.demo/store.yml, with the pooler if there is one."""
    poolers = ""
    if clients.pooler:
        place = stage.login(clients.pooler.console_endpoint())
        config = quoted(clients.pooler.directory / "pgbouncer.ini")
        poolers = POOLERS.format(**place, config=config)
    places = {"dump": DEMO / "roles", "replication": DEMO / "replication_password"}
    stage.write_inventory(DATABASE, INVENTORY, database=DATABASE, poolers=poolers, **places)


def hand_over(stage: Stage, clients: Clients, with_rollback: bool) -> None:
    """Every playbook of a continuous migration but the last, while the clients go on."""
    look_first(stage)
    clients.tell()
    step(stage, clients, "prepare_source", "The source is made ready for logical replication")
    step(stage, clients, "replicate", "It is copied; what clients write meanwhile follows")
    step(stage, clients, "status", "How it is doing, said from any machine")
    step(stage, clients, "verify", "Both ends are compared exactly, in use as they are")
    step(stage, clients, "cutover", "The handover")
    if with_rollback:
        step(stage, clients, "rollback", "And back, with everything that was written since")
        step(stage, clients, "cutover", "And over again")
    step(stage, clients, "status", "The source follows now, so that there is a way back")


def look_first(stage: Stage) -> None:
    """The preflight. What it finds in the sample was shown in full before, so here it is only summed up."""
    heading("Before anything is touched")
    with stage.times.measured("preflight"):
        play(DATABASE, "preflight", DEMO / f"{DATABASE}-preflight.log", quietly=True)
    found = report(DATABASE, "preflight")
    counts = [f"{found['summary'][level]} {level}" for level in ("blocker", "warning", "unknown", "info", "ok")]
    line("preflight", f"{', '.join(counts)}: in {REPORTS.relative_to(CHECKOUT)}/{DATABASE}-preflight.md")
    line("", f"Recommended method: {found['database']['recommended_method']}. {found['database']['reasons'][0]}")


def step(stage: Stage, clients: Clients, name: str, title: str) -> None:
    """A playbook, while clients go on. DemoError: one of them noticed."""
    heading(title)
    with stage.times.measured(name):
        play(DATABASE, name, DEMO / f"{DATABASE}-{name}.log")
    clients.tell()
    if clients.noticed:
        raise DemoError(f"A client was refused something: {clients.noticed[0]}")


def look_afterwards(stage: Stage, clients: Clients) -> compare.Contents:
    """Is everything there that was acknowledged, and do both ends hold the same? DemoError: no."""
    clients.tell()
    if problems := clients.problems():
        raise DemoError("The clients miss something on the target:\n" + "\n".join(f"  {text}" for text in problems))
    acknowledged = amount(clients.bank.acknowledged, "transactions")
    line(
        "bank",
        f"{good('nothing lost:')} {acknowledged} were acknowledged, each is on the target, none twice, "
        "and all sums are right",
    )
    await_arrival(stage.target)
    heading("The migration ends")
    with stage.times.measured("finish"):
        play(DATABASE, "finish", DEMO / f"{DATABASE}-finish.log")
    heading("Both ends compared")
    with stage.times.measured("comparison"):
        return compare_ends(stage)


def compare_ends(stage: Stage) -> compare.Contents:
    """What both databases hold. DemoError: they do not hold the same."""
    before, after = compare.read_both(stage.source.connect, stage.target.connect, DATABASE)
    if different := [text for text in compare.differences(before, after) if not is_expected(text, before)]:
        place = DEMO / f"{DATABASE}-differences"
        place.write_text("\n".join(different), encoding="utf-8")
        shown = "\n".join(f"  {text[:200]}" for text in different[:10])
        raise DemoError(f"{amount(len(different), 'things')} differ, listed in {place}:\n{shown}")
    rows = sum(count for name, (count, _digest) in before.tables.items() if name not in before.objects[VIEWS])
    objects = sum(map(len, after.objects.values())) - len(after.objects["sequences"])
    line(
        "demo",
        f"{good('all equal:')} {amount(rows, 'rows')}, by digests; {amount(objects, 'objects')}, "
        "each with its definition, owner, privileges",
    )
    line(
        "",
        "but for what belongs to one end: the source's fence, and on the target positions of sequences and "
        "materialized views that went on",
    )
    return after


def is_expected(difference: str, before: compare.Contents) -> bool:
    """The source keeps its fence; positions of sequences and materialized views are not replicated to it."""
    name = difference.removeprefix("rows of ").partition(": ")[0]
    fence = re.match(r"triggers .* handover_fence: |comments function handover\.fence\(\): ", difference)
    return bool(fence) or difference.startswith("sequences ") or name in before.objects[VIEWS]


def await_arrival(publisher: Cluster, timeout: float = 30) -> None:
    """Wait until whoever follows this server has confirmed all that it wrote so far."""
    [(end,)] = publisher.sql("postgres", "SELECT pg_current_wal_lsn()")
    deadline = time.monotonic() + timeout
    behind = "SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'logical' AND confirmed_flush_lsn < %s"
    while found := publisher.sql("postgres", behind, [end]):
        if time.monotonic() > deadline:
            raise DemoError(f"{found[0][0]} is still behind {timeout:.0f} seconds after the last write")
        time.sleep(0.1)


def summarize(stage: Stage, clients: Clients, contents: compare.Contents) -> None:
    """What was handed over, what the clients saw of it, and how long it took."""
    versions = f"{stage.source.build.version} to {stage.target.build.version}"
    verified, handed_over = (report(DATABASE, name)["database"] for name in ("verify", "cutover"))
    heading("Summary")
    line(
        "handed over",
        f"database {DATABASE} from PostgreSQL {versions}, {megabytes(contents.bytes)}, while "
        f"{clients.number} clients wrote",
    )
    copied = sum(part["ms"] for part in handed_over["timeline"] if part["step"] in ("copy", "large_objects"))
    line(
        "window",
        f"{handed_over['window_ms']:.0f} ms, in which clients waited; {copied:.0f} ms of it to copy large "
        "objects and an unlogged table, which are not replicated",
    )
    line(
        "clients",
        f"{amount(clients.committed, 'transactions')}, {clients.refusals()}; the slowest took "
        f"{clients.bank.worst:.0f} ms",
    )
    line(
        "verified",
        f"in use: {amount(verified['rows'], 'rows')} in {amount(verified['tables'], 'tables')} compared, "
        f"for which writers waited {verified['waited_ms']:.0f} ms at most",
    )
    line("left behind", "nothing but the fence on the source, which refuses every write and names the new home")
    line("seconds", ", ".join(f"{part} {seconds:.1f}" for part, seconds in stage.times.seconds.items()))


def where_to_look(stage: Stage) -> None:
    """How to look at what is left."""
    for label, server in (("source", stage.source), ("target", stage.target)):
        command(psql(server, DATABASE), label)
