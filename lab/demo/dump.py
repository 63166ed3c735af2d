# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By dump: a database that nobody writes to is handed over, twice, and both ends are compared."""

from __future__ import annotations

from lab import compare, sample
from lab.demo.stage import DEMO, DemoError, Stage, by_hand, play, psql, report
from lab.terminal import amount, bars, command, good, heading, line, megabytes

DATABASE = "shop"
PASSWORD = "sample"  # of the sample's roles
PREFLIGHT_LOG, FIRST_LOG, SECOND_LOG = (DEMO / f"{run}.log" for run in ("preflight", "first-run", "second-run"))

INVENTORY = """\
# One host of the inventory is one pair of source and target; this one is called "{database}". The modules run on that
# host and reach both servers over libpq. Here, it is this machine. README.md says what else may be set.
all:
  hosts:
    {database}:
{pair}

      # Somebody's word that nothing writes to the source until the application uses the target.
      handover_source_is_quiet: true

      handover_databases: [{database}]  # without it: all but templates and postgres
      handover_dump_directory: {dump}
      handover_report_directory: {reports}
      handover_client_directory: [{clients}]  # of pg_dump and pg_restore, where they are not in the usual places
"""


def demonstrate(stage: Stage) -> None:
    """Make the sample, look, hand it over twice, compare."""
    heading("A database that nobody writes to, of a sample application")
    with stage.times.measured("sample"):
        made = sample.create(stage.source.connect, DATABASE, password=PASSWORD)
    line(
        "sample",
        f"database {DATABASE}: {amount(made['tables'], 'tables')}, {amount(made['rows'], 'rows')}, "
        f"{megabytes(made['bytes'])}",
    )
    stage.write_inventory(DATABASE, INVENTORY, database=DATABASE, dump=DEMO / "dump")
    look_first(stage)
    migrate_twice(stage)
    heading("Both ends compared")
    with stage.times.measured("comparison"):
        contents = compare_ends(stage)
    summarize(stage, contents)


def look_first(stage: Stage) -> None:
    """The preflight says what can be handed over, how, and what stands in the way; it writes nothing but its report."""
    heading("Before anything is touched, with the inventory .demo/shop.yml")
    with stage.times.measured("preflight"):
        play(DATABASE, "preflight", PREFLIGHT_LOG)


def migrate_twice(stage: Stage) -> None:
    """The playbook brings everything over; run again, it has nothing to change."""
    heading("The migration")
    with stage.times.measured("playbook"):
        if not play(DATABASE, "dump", FIRST_LOG):
            raise DemoError(f"the playbook says that it changed nothing; its output is in {FIRST_LOG}")
    heading("The same again, which has to change nothing")
    with stage.times.measured("playbook again"):
        if changed := play(DATABASE, "dump", SECOND_LOG):
            raise DemoError(f"the second run changed {amount(changed, 'things')}; its output is in {SECOND_LOG}")


def compare_ends(stage: Stage) -> compare.Contents:
    """What both databases hold. DemoError: they do not hold the same."""
    before, after = compare.read_both(stage.source.connect, stage.target.connect, DATABASE)
    if different := compare.differences(before, after):
        place = DEMO / "differences"
        place.write_text("\n".join(different), encoding="utf-8")
        shown = "\n".join(f"  {text[:200]}" for text in different[:10])
        raise DemoError(f"{amount(len(different), 'things')} differ, listed in {place}:\n{shown}")
    stage.target.connect(DATABASE, user="shop_app", password=PASSWORD).close()
    rows = sum(count for count, _digest in before.tables.values())
    objects = sum(map(len, before.objects.values()))
    counted = report(DATABASE)["database"]["import"]["tables_compared"]
    line("playbook", f"{amount(counted, 'tables')} have as many rows as on the source")
    line(
        "demo",
        f"{good('all equal:')} {amount(rows, 'rows')} of tables and materialized views, by digests; "
        f"{amount(objects, 'objects')}, each with its definition, owner, privileges; positions of sequences",
    )
    line("", "shop_app logs in on the target with the password that it has on the source")
    return before


def summarize(stage: Stage, contents: compare.Contents) -> None:
    """What was handed over, and how long it took."""
    versions = f"{stage.source.build.version} to {stage.target.build.version}"
    done = report(DATABASE)["database"]
    exported, imported = done["export"], done["import"]
    heading("Summary")
    line(
        "handed over",
        f"database {DATABASE} from PostgreSQL {versions}: "
        f"{megabytes(contents.bytes)}, {megabytes(exported['bytes'])} as a dump",
    )
    line("", f"{amount(imported['rows_compared'], 'rows')} in {amount(imported['tables_compared'], 'tables')}")
    line("", ", ".join(amount(len(found), kind) for kind, found in contents.objects.items() if found))
    line("left out", f"rows of unlogged tables, as dumps do: {', '.join(contents.unlogged)}")
    line("second run", good("changed nothing"))
    line("seconds", ", ".join(f"{part} {seconds:.1f}" for part, seconds in stage.times.seconds.items()))
    bars(
        [
            (label, part["stage"], part["seconds"])
            for label, unit in (("export", exported), ("import", imported))
            for part in unit["stages"]
            if part["seconds"] >= 0.05
        ]
    )


def where_to_look(stage: Stage) -> None:
    """How to look at what is left, and to run the playbook by hand."""
    for label, server in (("source", stage.source), ("target", stage.target)):
        command(psql(server, DATABASE), label)
    command(by_hand(DATABASE, "dump"), "run again")
