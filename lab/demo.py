# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: a sample database is handed over from PostgreSQL 16 to 18, both on this machine.

The playbook is the collection's own, run as anybody runs it. What it brought over is then looked at with lab.compare,
which knows nothing of it. The servers stay up afterwards; `make demo-clean` stops them and removes everything.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2

from lab import compare, sample
from lab.builds import CHECKOUT, Build, BuildError, embedded, state
from lab.cluster import SUPERUSER, Cluster, ClusterError
from lab.terminal import COLOUR, amount, bars, command, good, heading, line, megabytes

SOURCE, TARGET = 16, 18
DATABASE, PAIR = "shop", "demo"
PASSWORD = "sample"  # of the sample's roles
DEMO = CHECKOUT / ".demo"
PREFLIGHT_LOG, FIRST_LOG, SECOND_LOG = (DEMO / f"{run}.log" for run in ("preflight", "first-run", "second-run"))
REPORTS = DEMO / "reports"
PLAYBOOK = "ansible-playbook -i .demo/inventory.yml handover.postgresql.{name}"
RECAP = re.compile(r"^\S+\s+: ok=\d+\s+changed=(\d+)\s", re.MULTILINE)

ANSIBLE_SETTINGS = """\
# Of the demo, so that what this machine and this user have set does not matter.
[defaults]
collections_path = {demo}/collections
home = {demo}/ansible
remote_tmp = {demo}/ansible/tmp
"""

INVENTORY = """\
# One host of the inventory is one pair of source and target; this one is called "{pair}". The modules run on that host
# and reach both servers over libpq. Here, it is this machine. README.md says what else may be set.
all:
  hosts:
    {pair}:
      ansible_connection: local
      ansible_python_interpreter: "{{{{ ansible_playbook_python }}}}"

      handover_source:
        host: 127.0.0.1
        port: {source.port}
        user: {user}
        passfile: {passfile}  # or password, out of Ansible Vault
      handover_target:
        host: 127.0.0.1
        port: {target.port}
        user: {user}
        passfile: {passfile}

      # Somebody's word that nothing writes to the source until the application uses the target.
      handover_source_is_quiet: true

      handover_databases: [{database}]  # without it: all but templates and postgres
      handover_dump_directory: {dump}
      handover_report_directory: {reports}
      handover_client_directory: [{clients}]  # of pg_dump and pg_restore, where they are not in the usual places
"""


class DemoError(Exception):
    """Something is not as it should be; the message says what, and where to look."""


class Times:
    """How long each part of the demo took, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def measured(self, part: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[part] = time.monotonic() - started


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab.demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--clean", action="store_true", help="stop the servers and remove what the demo made")
    clean = parser.parse_args().clean
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.stdout.reconfigure(errors="replace", line_buffering=True)
    try:
        with only_one():
            remove()
            if not clean:
                demonstrate()
    except (DemoError, BuildError, ClusterError, OSError, psycopg2.Error) as error:
        print(f"\nThe demo failed: {str(error).strip()}", file=sys.stderr)
        if DEMO.exists():
            print(f"Its servers were stopped. What was written so far is in {DEMO}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. The demo's servers were stopped.", file=sys.stderr)
        return 130
    return 0


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Two demos of one checkout would take each other's servers away."""
    with (CHECKOUT / ".build" / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError("another one runs in this checkout") from None
        yield


def remove() -> None:
    """Stop the servers that an earlier demo left, and remove everything that it made."""
    for major in (SOURCE, TARGET):
        Cluster(Build(major, "", Path()), state(DEMO.name) / str(major)).destroy()  # which takes no program
    for place in (state(DEMO.name), DEMO):
        shutil.rmtree(place, ignore_errors=True)


def demonstrate() -> None:
    """The demo from beginning to end. The servers stop when anything fails, and stay when all went well."""
    times = Times()
    with contextlib.ExitStack() as servers:
        source, target = start(servers, times)
        with times.measured("sample"):
            made = sample.create(source.connect, DATABASE, password=PASSWORD)
        line("sample", f"database {DATABASE}: {amount(made['tables'], 'tables')}, {amount(made['rows'], 'rows')}, "
                       f"{megabytes(made['bytes'])}")  # fmt: skip
        write_files(source, target)
        look_first(times)
        migrate_twice(times)
        heading("Both ends compared")
        with times.measured("comparison"):
            contents = compare_ends(source, target)
        summarize(source, target, contents, times)
        where_to_look(source, target)
        for server in (source, target):
            server.start(outlive=True)
        servers.pop_all()


def start(servers: contextlib.ExitStack, times: Times) -> tuple[Cluster, Cluster]:
    """Source and target, running as long as ``servers`` is open."""
    heading("Two servers on this machine, and a sample application on the source")
    builds = embedded()
    with times.measured("servers"):
        source, target = (
            servers.enter_context(Cluster(builds[major], state(DEMO.name) / str(major))) for major in (SOURCE, TARGET)
        )
    for label, server in (("source", source), ("target", target)):
        line(label, f"PostgreSQL {server.build.version} on 127.0.0.1, port {server.port}")
    return source, target


def write_files(source: Cluster, target: Cluster) -> None:
    """What the playbook needs, in .demo: the inventory, settings of Ansible, the pass file, the collection, clients."""
    DEMO.mkdir(exist_ok=True)
    passfile = DEMO / "pgpass"
    passfile.touch(mode=0o600)
    passfile.write_text("".join(f"127.0.0.1:{s.port}:*:{SUPERUSER}:{s.password}\n" for s in (source, target)))
    collection = DEMO / "collections" / "ansible_collections" / "handover" / "postgresql"
    collection.parent.mkdir(parents=True)
    collection.symlink_to(CHECKOUT, target_is_directory=True)
    (DEMO / "bin").symlink_to(target.build.bin, target_is_directory=True)
    (DEMO / "ansible.cfg").write_text(ANSIBLE_SETTINGS.format(demo=DEMO))
    places = {"passfile": passfile, "dump": DEMO / "dump", "reports": REPORTS, "clients": DEMO / "bin"}
    quoted = {name: json.dumps(str(place), ensure_ascii=False) for name, place in places.items()}
    (DEMO / "inventory.yml").write_text(
        INVENTORY.format(pair=PAIR, source=source, target=target, user=SUPERUSER, database=DATABASE, **quoted)
    )


def look_first(times: Times) -> None:
    """The preflight says what can be handed over, how, and what stands in the way; it writes nothing but its report."""
    heading("Before anything is touched, with the inventory .demo/inventory.yml")
    with times.measured("preflight"):
        play("preflight", PREFLIGHT_LOG)


def migrate_twice(times: Times) -> None:
    """The playbook brings everything over; run again, it has nothing to change."""
    heading("The migration")
    with times.measured("playbook"):
        if not play("dump", FIRST_LOG):
            raise DemoError(f"the playbook says that it changed nothing; its output is in {FIRST_LOG}")
    heading("The same again, which has to change nothing")
    with times.measured("playbook again"):
        if changed := play("dump", SECOND_LOG):
            raise DemoError(f"the second run changed {amount(changed, 'things')}; its output is in {SECOND_LOG}")


def by_hand(name: str) -> str:
    """The command with which a playbook is run from the checkout."""
    return f"ANSIBLE_CONFIG=.demo/ansible.cfg .build/venv/bin/{PLAYBOOK.format(name=name)}"


def play(name: str, log: Path) -> int:
    """Run a playbook as a user would, showing what it prints; how many tasks made a change by its own account."""
    command(by_hand(name))
    environment = {name: value for name, value in os.environ.items() if not re.match("PG|ANSIBLE", name)}
    environment.update(LC_ALL="C.UTF-8", ANSIBLE_CONFIG=".demo/ansible.cfg", ANSIBLE_FORCE_COLOR=str(COLOUR))
    words = shlex.split(PLAYBOOK.format(name=name))
    playbook = [f".build/venv/bin/{word}" if word == "ansible-playbook" else word for word in words]
    with log.open("w", encoding="utf-8") as file, subprocess.Popen(
        playbook, cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
    ) as process:  # fmt: skip
        try:
            for printed in process.stdout:
                print(printed, end="")
                file.write(re.sub(r"\x1b\[[\d;]*m", "", printed))
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise DemoError(f"ansible-playbook ended with exit status {process.returncode}; its output is in {log}")
    changes = RECAP.findall(log.read_text(encoding="utf-8"))
    if not changes:
        raise DemoError(f"ansible-playbook printed no recap; its output is in {log}")
    return sum(map(int, changes))


def compare_ends(source: Cluster, target: Cluster) -> compare.Contents:
    """What both databases hold. DemoError: they do not hold the same."""
    before, after = compare.read_both(source.connect, target.connect, DATABASE)
    if different := compare.differences(before, after):
        place = DEMO / "differences"
        place.write_text("\n".join(different), encoding="utf-8")
        shown = "\n".join(f"  {text[:200]}" for text in different[:10])
        raise DemoError(f"{amount(len(different), 'things')} differ, listed in {place}:\n{shown}")
    target.connect(DATABASE, user="shop_app", password=PASSWORD).close()
    rows = sum(count for count, _digest in before.tables.values())
    objects = sum(map(len, before.objects.values()))
    line("playbook", f"{amount(report()['import']['tables_compared'], 'tables')} have as many rows as on the source")
    line("demo", f"{good('all equal:')} {amount(rows, 'rows')} of tables and materialized views, by digests; "
                 f"{amount(objects, 'objects')}, each with its definition, owner, privileges; positions of sequences")
    line("", "shop_app logs in on the target with the password that it has on the source")
    return before


def report() -> dict:
    """What the playbook reports about the database."""
    [database] = json.loads((REPORTS / f"{PAIR}.json").read_text(encoding="utf-8"))["databases"]
    return database


def summarize(source: Cluster, target: Cluster, contents: compare.Contents, times: Times) -> None:
    """What was handed over, and how long it took."""
    exported, imported = report()["export"], report()["import"]
    heading("Summary")
    line("handed over", f"database {DATABASE} from PostgreSQL {source.build.version} to {target.build.version}: "
                        f"{megabytes(contents.bytes)}, {megabytes(exported['bytes'])} as a dump")
    line("", f"{amount(imported['rows_compared'], 'rows')} in {amount(imported['tables_compared'], 'tables')}")
    line("", ", ".join(amount(len(found), kind) for kind, found in contents.objects.items() if found))
    line("left out", f"rows of unlogged tables, as dumps do: {', '.join(contents.unlogged)}")
    line("second run", good("changed nothing"))
    line("seconds", ", ".join(f"{part} {seconds:.1f}" for part, seconds in times.seconds.items()))
    stages = [(label, stage["stage"], stage["seconds"]) for label, unit in (("export", exported), ("import", imported))
              for stage in unit["stages"] if stage["seconds"] >= 0.05]  # fmt: skip
    bars(stages)


def where_to_look(source: Cluster, target: Cluster) -> None:
    """How to look at what is left, run the playbook by hand, and clean up."""
    heading(f"Both servers stay up. In {CHECKOUT}:")
    for label, server in (("source", source), ("target", target)):
        psql = f".demo/bin/psql -h 127.0.0.1 -p {server.port} -U {SUPERUSER} {DATABASE}"
        command(f"PGPASSFILE=.demo/pgpass {psql}", label)
    command(by_hand("dump"), "run again")
    line("inventory", ".demo/inventory.yml, to read and to copy")
    line("report", ", ".join(str(path.relative_to(CHECKOUT)) for path in sorted(REPORTS.iterdir())))
    line("logs", f"of the playbook: .demo/*.log; of the servers: {source.log}, {target.log}")
    command("make demo-clean", "clean up")


if __name__ == "__main__":
    sys.exit(main())
