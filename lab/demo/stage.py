# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the demo takes place: two servers, the directory .demo, and playbooks run there as a user runs them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lab.builds import CHECKOUT, Build, embedded, state
from lab.cluster import SUPERUSER, Cluster
from lab.terminal import COLOUR, command, line

SOURCE, TARGET = 16, 18
DEMO = CHECKOUT / ".demo"
REPORTS = DEMO / "reports"
PLAYBOOK = "ansible-playbook -i .demo/{inventory}.yml handover.postgresql.{name}"
RECAP = re.compile(r"^\S+\s+: ok=\d+\s+changed=(\d+)\s", re.MULTILINE)

ANSIBLE_SETTINGS = """\
# Of the demo, so that what this machine and this user have set does not matter.
[defaults]
collections_path = {demo}/collections
home = {demo}/ansible
remote_tmp = {demo}/ansible/tmp
# Tasks that change nothing are not listed, what they have to show is.
display_ok_hosts = false
display_skipped_hosts = false
"""

# Both ends, and where the modules run: the same in all inventories of the demo.
PAIR = """\
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
        self.seconds[part] = self.seconds.get(part, 0) + time.monotonic() - started


class Stage:
    """Source and target, running as long as ``servers`` is open, and what playbooks need, in .demo."""

    def __init__(self, servers: contextlib.ExitStack) -> None:
        builds = embedded()
        self.times = Times()
        with self.times.measured("servers"):
            self.source, self.target = (
                servers.enter_context(Cluster(builds[major], state(DEMO.name) / str(major)))
                for major in (SOURCE, TARGET)
            )
        for label, server in (("source", self.source), ("target", self.target)):
            line(label, f"PostgreSQL {server.build.version} on 127.0.0.1, port {server.port}")
        self._write_files()

    def _write_files(self) -> None:
        """Settings of Ansible, the pass file, the collection and the client programs."""
        DEMO.mkdir(exist_ok=True)
        self.passfile = DEMO / "pgpass"
        self.passfile.touch(mode=0o600)
        ends = (self.source, self.target)
        self.passfile.write_text("".join(f"127.0.0.1:{s.port}:*:{SUPERUSER}:{s.password}\n" for s in ends))
        collection = DEMO / "collections" / "ansible_collections" / "handover" / "postgresql"
        collection.parent.mkdir(parents=True)
        collection.symlink_to(CHECKOUT, target_is_directory=True)
        (DEMO / "bin").symlink_to(self.target.build.bin, target_is_directory=True)
        (DEMO / "ansible.cfg").write_text(ANSIBLE_SETTINGS.format(demo=DEMO))

    def write_inventory(self, name: str, template: str, **values: object) -> None:
        """.demo/NAME.yml; ``{pair}`` of the template are both ends, paths among ``values`` are quoted."""
        places = {"passfile": self.passfile, "reports": REPORTS, "clients": DEMO / "bin", **values}
        texts = {key: quoted(value) if isinstance(value, Path) else value for key, value in places.items()}
        pair = PAIR.format(source=self.source, target=self.target, user=SUPERUSER, **texts)
        (DEMO / f"{name}.yml").write_text(template.format(pair=pair.rstrip(), **texts))

    def login(self, endpoint: Mapping[str, Any]) -> dict[str, str]:
        """Put an endpoint's password into the pass file, and return port, user and pass file for an inventory."""
        with self.passfile.open("a") as file:
            file.write("127.0.0.1:{port}:*:{user}:{password}\n".format(**endpoint))
        return {"port": endpoint["port"], "user": endpoint["user"], "passfile": quoted(self.passfile)}

    def keep(self) -> None:
        """Let the servers outlive this process."""
        for server in (self.source, self.target):
            server.start(outlive=True)


def remove() -> None:
    """Stop the servers that an earlier demo left, and remove everything that it made."""
    for major in (SOURCE, TARGET):
        Cluster(Build(major, "", Path()), state(DEMO.name) / str(major)).destroy()  # which takes no program
    for place in (state(DEMO.name), DEMO):
        shutil.rmtree(place, ignore_errors=True)


def by_hand(inventory: str, name: str) -> str:
    """The command with which a playbook is run from the checkout."""
    return f"ANSIBLE_CONFIG=.demo/ansible.cfg .build/venv/bin/{PLAYBOOK.format(inventory=inventory, name=name)}"


def play(inventory: str, name: str, log: Path, quietly: bool = False) -> int:
    """Run a playbook as a user would, showing what it prints; how many tasks made a change by its own account.

    ``quietly``, what it prints is shown if it fails.
    """
    command(by_hand(inventory, name))
    environment = {name: value for name, value in os.environ.items() if not re.match("PG|ANSIBLE", name)}
    environment.update(LC_ALL="C.UTF-8", ANSIBLE_CONFIG=".demo/ansible.cfg", ANSIBLE_FORCE_COLOR=str(COLOUR))
    words = shlex.split(PLAYBOOK.format(inventory=inventory, name=name))
    playbook = [f".build/venv/bin/{word}" if word == "ansible-playbook" else word for word in words]
    with log.open("w", encoding="utf-8") as file, subprocess.Popen(
        playbook, cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
    ) as process:  # fmt: skip
        try:
            held_back = []
            for printed in process.stdout:
                held_back.append(printed) if quietly else print(printed, end="")
                file.write(re.sub(r"\x1b\[[\d;]*m", "", printed))
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        print("".join(held_back), end="")
        raise DemoError(f"ansible-playbook ended with exit status {process.returncode}; its output is in {log}")
    changes = RECAP.findall(log.read_text(encoding="utf-8"))
    if not changes:
        raise DemoError(f"ansible-playbook printed no recap; its output is in {log}")
    return sum(map(int, changes))


def report(inventory: str, name: str = "") -> dict:
    """What a playbook last reported about an inventory with one database; without a name, the playbook dump.

    ``database`` is what it said of that.
    """
    place = REPORTS / (f"{inventory}-{name}.json" if name else f"{inventory}.json")
    said = json.loads(place.read_text(encoding="utf-8"))
    [said["database"]] = said["databases"]
    return said


def quoted(path: Path) -> str:
    """A path as a string of YAML."""
    return json.dumps(str(path), ensure_ascii=False)


def psql(server: Cluster, database: str) -> str:
    """The command with which to look at a database."""
    return f"PGPASSFILE=.demo/pgpass .demo/bin/psql -h 127.0.0.1 -p {server.port} -U {SUPERUSER} {database}"


def where_to_look(stage: Stage) -> None:
    """What is left of the demo, besides its databases."""
    inventories = ", ".join(f".demo/{path.name}" for path in sorted(DEMO.glob("*.yml")))
    line("inventories", f"{inventories}, to read and to copy")
    line("reports", f"{REPORTS.relative_to(CHECKOUT)}/*.md, and for programs *.json")
    line("logs", f"of the playbooks: .demo/*.log; of the servers: {stage.source.log}, {stage.target.log}")
    command("make demo-clean", "clean up")
