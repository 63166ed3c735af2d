# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What integration tests use: servers, modules and playbooks run as users run them, and looking at both ends."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ansible_runner
from ansible.release import __version__ as ansible_version
from collection import COLLECTIONS, ROOT
from contents import Contents, as_written_by, assert_same, contents, differences, roles
from psycopg2 import sql
from warm import WarmPython

from lab import builds
from lab.cluster import Cluster, give

__all__ = [
    "COLLECTIONS", "ROOT", "Cluster", "Contents", "PlaybookResult", "Result", "Running", "assert_same", "contents",
    "copy_with_pg_dump", "create_database", "differences", "roles", "run_module", "run_playbook", "run_with_runner",
    "shared_directory", "start_module", "start_playbook",
]  # fmt: skip

HERE = Path(__file__).resolve().parent

# As Ansible's own wrapper does it; the second assignment matters to ansible-core 2.19 and later only.
RUN_MODULE = """
import runpy, sys
from ansible.module_utils import basic
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.stdin.buffer.read(), "legacy"
runpy.run_module("ansible_collections.handover.postgresql.plugins.modules." + sys.argv[1], run_name="__main__")
"""

WITH_BYTECODE = {
    "PYTHONPATH": f"{HERE / 'site'}{os.pathsep}{COLLECTIONS}",
    "HANDOVER_TEST_BYTECODE": str(ROOT / ".build" / "bytecode"),
}


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a migrator: the newest client programs on the PATH, those of two majors, nothing of the
    caller's PG* variables, and nothing that keeps Python from keeping bytecode, with which modules start sooner.
    """
    left_out = re.compile("PG|ANSIBLE|HANDOVER|PYTHONDONTWRITEBYTECODE")
    inherited = {name: value for name, value in os.environ.items() if not left_out.match(name)}
    path = os.pathsep.join((str(Path(sys.executable).parent), *_clients(), os.environ.get("PATH", os.defpath)))
    return {**inherited, "PATH": path, "PYTHONPATH": str(COLLECTIONS), "LC_ALL": "C.UTF-8", **(more or {})}


@functools.cache
def _clients() -> list[str]:
    return [str(builds.build(major).bin) for major in (builds.CLIENT_MAJOR, builds.MAJORS[-1])]


def secrets_of(value: Any) -> Iterator[str]:
    """Passwords anywhere in a module's arguments or an inventory, unless they are too short to be told from words."""
    if isinstance(value, Mapping):
        for name, child in value.items():
            if isinstance(child, str) and "password" in name and not name.endswith("_file") and len(child) >= 12:
                yield child
            elif isinstance(child, str) and (found := re.match(r"\w+://[^:/@]*:([^@]{12,})@", child)):
                yield found[1]
            yield from secrets_of(child)
    elif isinstance(value, (list, tuple)):
        for child in value:
            yield from secrets_of(child)


def assert_no_secret(passwords: Iterable[str], *texts: str) -> None:
    for secret in passwords:
        for text in texts:
            assert secret not in text, f"a password is in this text: {text.replace(secret, '<HERE>')}"


warm_python = WarmPython()  # the integration tests open it; benchmarks measure whole processes


class Running:
    """A module or playbook that runs as a process of its own; output goes to files, so it never blocks on us."""

    def __init__(
        self,
        command: list[str],
        read: Callable[[Running], Any],
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        module: str = "",
    ) -> None:
        self._read = read
        self._files = {name: tempfile.TemporaryFile("w+b") for name in ("stdin", "stdout", "stderr")}
        self._files["stdin"].write(stdin.encode())
        self._files["stdin"].seek(0)
        self._mark = secrets.token_hex(16)
        marked = {**environment(env), "LAB_RUN": self._mark}
        if module:
            self.process = warm_python.start(module, marked, **self._files)
        else:
            self.process = subprocess.Popen(command, env=marked, cwd="/", start_new_session=True, **self._files)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout(self) -> str:
        return self._text("stdout")

    @property
    def stderr(self) -> str:
        return self._text("stderr")

    def _text(self, name: str) -> str:
        self._files[name].seek(0)
        return self._files[name].read().decode(errors="replace")

    def family(self) -> dict[int, str]:
        """Process id and command line of this process and of all that came of it, whoever is their parent now.

        They are known by a variable of their environment, or where a child was given none of it, by its session.
        """
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                session = int((place / "stat").read_text().rpartition(")")[2].split()[3])
                if session == self.pid or self._mark.encode() in (place / "environ").read_bytes():
                    command = (place / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(place.name)] = command.decode(errors="replace").strip()
        return found

    def await_program(self, name: str, timeout: float = 60) -> int:
        """The process id of a child program such as ``pg_dump``, as soon as it runs."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self.process.poll() is None:
            for pid, command in self.family().items():
                if Path(command.split(" ")[0]).name == name:
                    return pid
            time.sleep(0.005)
        raise AssertionError(f"{name} did not run within {timeout} s:\n{self.stdout}{self.stderr}")

    def kill(self) -> None:
        """kill -9 of this process alone, which is what its children see of an out-of-memory kill."""
        self.process.kill()
        self.process.wait()

    def kill_family(self) -> None:
        """kill -9 of this process and of all below it."""
        while family := self.family():
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.poll()
            time.sleep(0.01)

    def wait(self, timeout: float = 300) -> Any:
        """The result, when the process has ended.

        :raises AssertionError: when it takes longer than ``timeout`` seconds; it is killed then.
        """
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill_family()
            raise AssertionError(f"not done after {timeout} s:\n{self.stdout}{self.stderr}") from None
        return self._read(self)


# --- modules ---------------------------------------------------------------------------------------------------------


class Result(UserDict):
    """What a module returned; ``failed``, ``changed``, ``warnings`` and every field are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        if name == "data" or name.startswith("__"):
            raise AttributeError(name)
        return self.data.get(name, {"failed": False, "changed": False, "warnings": [], "msg": ""}.get(name))


def run_module(
    name: str,
    args: Mapping[str, Any],
    check: bool = False,
    diff: bool = False,
    env: Mapping[str, str] | None = None,
    warnings: bool = False,
    timeout: float = 300,
) -> Result:
    """Run a module of the collection, for example ``pg_dump_export``, and return its result, failed or not.

    Asserts that no password of ``args`` is in what it printed, and, unless ``warnings`` are expected, that there are
    neither warnings nor deprecations.
    """
    return start_module(name, args, check, diff, env, warnings).wait(timeout)


def start_module(
    name: str,
    args: Mapping[str, Any],
    check: bool = False,
    diff: bool = False,
    env: Mapping[str, str] | None = None,
    warnings: bool = False,
    cold: bool = False,
) -> Running:
    """Start a module without waiting for it: for tests that kill it or look at it while it runs.

    It begins ``cold`` where a test looks at what warm ones have in common, such as memory and ``/proc/PID/environ``.
    """
    given = {
        "ANSIBLE_MODULE_ARGS": {**args, "_ansible_check_mode": check, "_ansible_diff": diff, "_ansible_verbosity": 1}
    }

    def read(running: Running) -> Result:
        assert_no_secret(secrets_of(args), running.stdout, running.stderr)
        try:
            result = Result(json.loads(running.stdout))
        except ValueError:
            raise AssertionError(f"{name} returned no JSON:\n{running.stdout}\n{running.stderr}") from None
        assert warnings or not (result.get("warnings") or result.get("deprecations")), result
        return result

    cold = cold or not warm_python.open or needs_a_start_of_its_own(env)
    command = [sys.executable, "-c", RUN_MODULE, name]
    return Running(command, read, json.dumps(given), env, module="" if cold else name)


def needs_a_start_of_its_own(variables: Mapping[str, str] | None) -> bool:
    """Whether among these is one that Python or the C library reads only as a process begins."""
    return any(re.match("PYTHON|LANG|LC_|LD_|TZ", name) for name in variables or ())


# --- playbooks -------------------------------------------------------------------------------------------------------


class PlaybookResult:
    """What ansible-playbook did: ``tasks`` in order (host, play, task, action, status, result), and ``stats``."""

    def __init__(self, rc: int, stdout: str, stderr: str, events: list[dict[str, Any]]) -> None:
        self.rc = rc
        self.stdout = stdout
        self.stderr = stderr
        self.tasks = [event for event in events if "status" in event]
        self.stats = next((event["stats"] for event in events if "stats" in event), {})

    def __repr__(self) -> str:
        return f"<exit {self.rc}>\n{self.stdout}\n{self.stderr}"

    @property
    def failed(self) -> bool:
        return self.rc != 0

    @property
    def changed(self) -> bool:
        return any(stats["changed"] for stats in self.stats.values())

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The results of failed tasks whose failure counted."""
        return [t["result"] for t in self.tasks if t["status"] in ("failed", "unreachable") and not t["ignored"]]

    @property
    def warnings(self) -> list[str]:
        printed = re.findall(r"^\[(?:WARNING|DEPRECATION WARNING|ERROR)\].*", self.stderr, re.MULTILINE)
        returned = (t["result"].get(kind) or [] for t in self.tasks for kind in ("warnings", "deprecations"))
        return [*printed, *map(str, itertools.chain.from_iterable(returned))]

    def results(self, name: str) -> list[Result]:
        """The results of all tasks of this name, or of this module."""
        return [Result(t["result"]) for t in self.tasks if name in (t["task"], t["action"])]


def run_playbook(
    playbook: str | Path, inventory: Mapping[str, Any], timeout: float = 600, **options: Any
) -> PlaybookResult:
    """Run a playbook (a path, or a name such as ``handover.postgresql.dump``); options as in :func:`start_playbook`."""
    return start_playbook(playbook, inventory, warm=True, **options).wait(timeout)


def start_playbook(
    playbook: str | Path,
    inventory: Mapping[str, Any],
    check: bool = False,
    diff: bool = False,
    extra_vars: Mapping[str, Any] | None = None,
    tags: Iterable[str] = (),
    skip_tags: Iterable[str] = (),
    args: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
    warnings: bool = False,
    here: Iterable[str] = (),
    warm: bool = False,
    progress: bool = False,
) -> Running:
    """Start ansible-playbook with an inventory given as what its YAML would hold; ``here`` are words before it.

    Without ``progress``, none is shown, which takes a few processes less for each module.

    With ``warm`` modules, the playbook is not to be killed: they are not of its family.

    Afterwards it asserts that no password of the inventory or the extra variables was printed, and that there were no
    warnings, unless ``warnings`` are expected.
    """
    scratch = tempfile.TemporaryDirectory(prefix="handover-playbook-")
    place = Path(scratch.name)
    _write_private(place / "inventory.json", inventory)
    _write_private(place / "extra.json", {**({} if progress else {"handover_progress": 0}), **(extra_vars or {})})
    (place / "ansible.cfg").touch()
    command = [
        *here, "ansible-playbook", "-i", f"{place}/inventory.json", "-e", f"@{place}/extra.json",
        *(["--check"] if check else []), *(["--diff"] if diff else []),
        *(f"--tags={tag}" for tag in tags), *(f"--skip-tags={tag}" for tag in skip_tags), *args, str(playbook),
    ]  # fmt: skip

    def read(running: Running) -> PlaybookResult:
        record = place / "record"
        events = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
        scratch.cleanup()
        result = PlaybookResult(running.process.returncode, running.stdout, running.stderr, events)
        assert_no_secret(secrets_of([inventory, extra_vars]), running.stdout, running.stderr, json.dumps(events))
        assert warnings or not result.warnings, f"{result.warnings}\n{result}"
        return result

    python = warm_python.interpreter if warm and not needs_a_start_of_its_own(env) else sys.executable
    settings = {**_ansible_settings(place), "ANSIBLE_PYTHON_INTERPRETER": python}
    return Running(command, read, env={**settings, **(env or {})})


def run_with_runner(
    playbook: Path, inventory: Mapping[str, Any], extra_vars: Mapping[str, Any], place: Path
) -> tuple[str, list[dict[str, Any]]]:
    """Run a playbook as AWX does, by ansible-runner; how it ended, and its events. ``place`` is an empty directory in
    the home directory.
    """
    events: list[dict[str, Any]] = []
    (place / "ansible.cfg").touch()
    ours = {"ANSIBLE_PYTHON_INTERPRETER": warm_python.interpreter, "HOME": str(place.parent)}
    run = ansible_runner.run(
        private_data_dir=str(place),
        playbook=str(playbook),
        inventory=dict(inventory),
        extravars=dict(extra_vars),
        envvars={**environment(), **_ansible_settings(place), **ours},
        event_handler=events.append,
        quiet=True,
    )
    assert_no_secret(secrets_of([inventory, extra_vars]), json.dumps(events))
    return run.status, events


def _ansible_settings(place: Path) -> dict[str, str]:
    """Ansible as on a machine where nobody has configured it, but for where it finds what and what it records."""
    return {
        "ANSIBLE_CONFIG": f"{place}/ansible.cfg",
        "ANSIBLE_HOME": f"{place}/home",
        "ANSIBLE_REMOTE_TEMP": f"{place}/remote",
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        **WITH_BYTECODE,
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "record,packed",
        "ANSIBLE_NOCOLOR": "1",
        "HANDOVER_TEST_RECORD": f"{place}/record",
        "HANDOVER_TEST_PACKED": str(ROOT / ".build" / "packed" / _sources_of_modules()),
    }


def _sources_of_modules() -> str:
    """A word that is another one when anything changes that Ansible packs for a task."""
    found = hashlib.sha256(f"{ansible_version} {sys.version} {COLLECTIONS}".encode())
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        found.update(f"{path} {path.stat().st_size}\n".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def _write_private(path: Path, content: Any) -> None:
    path.touch(mode=0o600)
    path.write_text(json.dumps(content))


# --- databases -------------------------------------------------------------------------------------------------------

_numbers = itertools.count(1)


def create_database(cluster: Cluster, name: str | None = None, options: str = "") -> str:
    """Make a database under this or a fresh name and return the name; ``options`` are of CREATE DATABASE."""
    name = name or f"test_{os.getpid()}_{next(_numbers)}"
    cluster.sql("postgres", sql.SQL("CREATE DATABASE {} " + options).format(sql.Identifier(name)))
    return name


def copy_with_pg_dump(source: Cluster, target: Cluster, dbname: str) -> None:
    """Copy all roles, without passwords, and a database with nothing but the target's own client programs."""
    restored = f"--dbname=dbname={_quoted(dbname)}"
    with tempfile.TemporaryDirectory() as scratch:
        archive = f"{scratch}/archive"
        statements = _client(target, source, "pg_dumpall", "--roles-only", "--no-role-passwords")
        statements = re.sub("^(CREATE|ALTER) ROLE postgres[ ;].*", "", statements, flags=re.MULTILINE)
        _client(target, target, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", stdin=statements)
        _client(target, source, "pg_dump", "--format=custom", "--compress=0", f"--file={archive}", restored)
        _client(target, target, "pg_restore", "--exit-on-error", restored, archive)


def contents_in_words_of(target: Cluster, source: Cluster, dbname: str, **options: bool) -> Contents:
    """All that a database of the source holds, definitions as the target's server writes them of a copy made by its
    own client programs: servers write the same in other words.
    """
    name = f"words_of_{os.getpid()}_{next(_numbers)}"
    text = _client(
        target, source, "pg_dump", "--schema-only", "--create", "--no-owner", f"--dbname=dbname={_quoted(dbname)}"
    )
    [create] = re.findall(r"^CREATE DATABASE .*? (WITH TEMPLATE .*);$", text, flags=re.MULTILINE)
    create_database(target, name, create)
    _head, _connect, schema = re.split(r"^(\\connect .*)$", text, maxsplit=1, flags=re.MULTILINE)
    _client(target, target, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", f"--dbname=dbname={name}", stdin=schema)
    with contextlib.closing(source.connect(dbname)) as here, contextlib.closing(target.connect(name)) as there:
        found = as_written_by(contents(there, views=False, data=False), contents(here, **options))
    target.sql("postgres", sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
    return found


def _client(programs: Cluster, server: Cluster, name: str, *arguments: str, stdin: str = "") -> str:
    """What a client program printed; it has to succeed without a word of complaint."""
    variables = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "postgres", "PGPASSWORD": server.password}
    done = subprocess.run(
        [programs.build.program(name), *arguments],
        env=environment(variables),
        input=stdin,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


def _quoted(value: str) -> str:
    """A value in a connection string."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def shared_directory(parent: Path, name: str) -> Path:
    """A directory that belongs to the servers' user: for tablespaces and the like."""
    place = parent / name
    place.mkdir(mode=0o755)
    give(place)
    return place
