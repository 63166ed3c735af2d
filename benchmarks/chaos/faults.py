# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of faults. Each strikes at a moment of a job, and returns how it is mended, if that is not by itself."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks.chaos.jobs import Job
from benchmarks.chaos.stage import NAME, Stage

Mend = Callable[[], None]
TABLES = ("account", "transfer", "ledger", "probe", "event", "event_1", "product", "line", "passing", "scan")
OURS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'handover' AND pid <> pg_backend_pid()"
THEIRS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'application'"
WORKERS = {
    "walsender": "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsender'",
    "apply worker": "SELECT pid FROM pg_stat_activity WHERE backend_type ~ '^logical replication (apply )?worker'",
}
DDL = {
    "add column": "ALTER TABLE bank.{table} ADD COLUMN more_{number} integer",
    "create table": "CREATE TABLE bank.new_{number} (i integer PRIMARY KEY)",
    "drop index": "DROP INDEX IF EXISTS bank.product_price",
    "create index": "CREATE INDEX more_{number} ON bank.product (made)",
}


@dataclass
class Scene:
    """Where a fault strikes."""

    stage: Stage
    job: Job
    random: random.Random
    home: str  # the end that is written to when the job begins
    number: int
    beside: Callable[[str], Job]  # starts another job
    note: Callable[[str], None]  # what exactly was done
    crashed: Callable[[], None]  # a server lost its sessions, and what is unlogged
    changed: Callable[[str, str], None]  # DDL was executed at an end

    @property
    def side(self) -> str:
        """One of both ends."""
        return self.random.choice(("source", "target"))


@dataclass(frozen=True)
class Fault:
    """One kind. ``weight`` is how often it is chosen, ``jobs`` are those that it makes sense for (default: all)."""

    name: str
    weight: int
    strike: Callable[[Scene], Mend | None]
    jobs: tuple[str, ...] = ()


WINDOWS = ("cutover", "rollback")
FAULTS: dict[str, Fault] = {}


def _fault(name: str, weight: int, *jobs: str) -> Callable[[Callable[[Scene], Mend | None]], Any]:
    def remember(strike: Callable[[Scene], Mend | None]) -> Any:
        FAULTS[name] = Fault(name, weight, strike, jobs)
        return strike

    return remember


def _children(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def _send(pids: Any, number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _pids(scene: Scene, side: str, query: str) -> list[int]:
    with contextlib.suppress(psycopg2.Error):
        return [pid for (pid,) in scene.stage.sql(side, query, "postgres")]
    return []


@_fault("none", 2)
def nothing(scene: Scene) -> None:
    """So that the program is seen to find nothing where nothing is done."""


# --- killed ----------------------------------------------------------------------------------------------------------


@_fault("kill module", 12)
def kill_module(scene: Scene) -> None:
    """As an out-of-memory kill."""
    scene.job.send(signal.SIGKILL)


@_fault("terminate module", 4)
def terminate_module(scene: Scene) -> None:
    """As an operator does who has lost patience."""
    scene.job.send(scene.random.choice((signal.SIGTERM, signal.SIGINT)))


@_fault("kill playbook", 3)
def kill_playbook(scene: Scene) -> None:
    """ansible-playbook alone, whose children go on, or all of it."""
    if scene.random.random() < 0.5:
        scene.note("all of it")
        scene.job.end()
    scene.job.send(signal.SIGKILL)


@_fault("kill guardian", 4, *WINDOWS)
def kill_guardian(scene: Scene) -> None:
    """Only it: the module is alone responsible."""
    _send(scene.job.guardians(), signal.SIGKILL)


@_fault("kill module and guardian", 6, *WINDOWS)
def kill_both(scene: Scene) -> None:
    """As a migrator that loses power, but now and then the guardian lives a little longer."""
    scene.job.send(signal.SIGKILL)
    scene.job.end()


@_fault("kill walsender", 4)
def kill_walsender(scene: Scene) -> None:
    """The postmaster ends all sessions then, and recovers."""
    _kill_worker(scene, "walsender")


@_fault("kill apply worker", 4)
def kill_apply_worker(scene: Scene) -> None:
    """The same at the other end."""
    _kill_worker(scene, "apply worker")


def _kill_worker(scene: Scene, what: str) -> None:
    sides = [side for side in ("source", "target") if _pids(scene, side, WORKERS[what])]
    if sides:
        side = scene.random.choice(sides)
        scene.note(side)
        scene.crashed()
        _send(_pids(scene, side, WORKERS[what])[:1], signal.SIGKILL)


@_fault("kill server", 8)
def kill_server(scene: Scene) -> Mend:
    """Every process of it with SIGKILL."""
    side = scene.side
    scene.note(side)
    scene.crashed()
    scene.stage.clusters[side].kill()
    return lambda: scene.stage.await_server(side)


@_fault("stop server", 5)
def stop_server(scene: Scene) -> Mend:
    """Immediate or fast, started again afterwards."""
    side, mode = scene.side, scene.random.choice(("immediate", "fast"))
    scene.note(f"{side}, {mode}")
    scene.crashed()
    scene.stage.clusters[side].stop(mode)
    return lambda: scene.stage.await_server(side)


@_fault("kill pooler", 6, *WINDOWS, "finish")
def kill_pooler(scene: Scene) -> Mend:
    """It is started again; by then its file may be another. Not as long as nothing keeps clients from writing to the
    new home, where they would be led: until the fence is there, nobody may restart a pooler whose file says so.
    """
    stage, new = scene.stage, "target" if scene.job.name == "cutover" else "source"
    stage.pooler.stop()

    def mend() -> None:
        if stage.is_fenced(new):
            stage.pooler.start()
        else:
            stage.lead(scene.home)
            stage.pooler.start()
            stage.lead(new)

    return mend


# --- frozen ----------------------------------------------------------------------------------------------------------


def _freeze(pids: list[int]) -> Mend:
    _send(pids, signal.SIGSTOP)
    return lambda: _send(pids, signal.SIGCONT)


@_fault("freeze module", 4)
def freeze_module(scene: Scene) -> Mend:
    """SIGSTOP, and SIGCONT."""
    return _freeze([scene.job.pid])


@_fault("freeze guardian", 2, *WINDOWS)
def freeze_guardian(scene: Scene) -> Mend:
    """The same."""
    return _freeze(scene.job.guardians())


@_fault("freeze guardian, kill module", 3, *WINDOWS)
def freeze_guardian_and_kill(scene: Scene) -> Mend:
    """The guardian wakes up when others are at work, perhaps."""
    mend = _freeze(scene.job.guardians())
    scene.job.send(signal.SIGKILL)
    return mend


@_fault("freeze worker", 5)
def freeze_worker(scene: Scene) -> Mend:
    """A walsender or an apply worker does nothing for a while."""
    side, what = scene.side, scene.random.choice(tuple(WORKERS))
    scene.note(f"{what}, {side}")
    return _freeze(_pids(scene, side, WORKERS[what]))


@_fault("freeze session", 4)
def freeze_session(scene: Scene) -> Mend:
    """The server's process of one of our sessions."""
    side = scene.side
    scene.note(side)
    pids = _pids(scene, side, OURS)
    return _freeze(scene.random.sample(pids, min(1, len(pids))))


@_fault("freeze server", 5)
def freeze_server(scene: Scene) -> Mend:
    """All of it: it accepts connections and says nothing."""
    side = scene.side
    scene.note(side)
    pid = scene.stage.clusters[side].pid
    return _freeze([pid, *_children(pid)] if pid else [])


@_fault("freeze pooler", 4, *WINDOWS)
def freeze_pooler(scene: Scene) -> Mend:
    """The same."""
    process = scene.stage.pooler._process
    return _freeze([process.pid] if process else [])


# --- network ---------------------------------------------------------------------------------------------------------


def _way(scene: Scene) -> Any:
    names = [name for name in scene.stage.ways if scene.job.name in WINDOWS or "pooler" not in name]
    name = scene.random.choice(names)
    scene.note(name)
    return scene.stage.ways[name]


@_fault("network delays", 4)
def network_delays(scene: Scene) -> Mend:
    """Up to half a second each way."""
    way = _way(scene)
    way.delay(scene.random.choice((0.02, 0.1, 0.5)))
    return way.mend


@_fault("network drops", 7)
def network_drops(scene: Scene) -> Mend:
    """Nothing arrives for a while; then it does, or all is reset."""
    way = _way(scene)
    way.hold()
    then_reset = scene.random.random() < 0.5

    def mend() -> None:
        if then_reset:
            way.cut(refuse=False)
        way.mend()

    return mend


@_fault("network cut", 7)
def network_cut(scene: Scene) -> Mend:
    """Connections are reset, and new ones refused for a while."""
    way = _way(scene)
    way.cut()
    return way.mend


# --- gone back in time -----------------------------------------------------------------------------------------------


@_fault("failover", 3, *WINDOWS)
def failover(scene: Scene) -> None:
    """The end that follows fails over to a standby that is behind, or is restored: what it has shown is not there."""
    side = "target" if scene.home == "source" else "source"
    promoted = scene.random.random() < 0.5
    scene.note(f"{side}, {'promoted' if promoted else 'restored'}")
    scene.crashed()
    scene.stage.fail_over(side, scene.stage.place / side / "copy", promoted)


# --- in the server ---------------------------------------------------------------------------------------------------


@_fault("full disk", 5)
def full_disk(scene: Scene) -> Mend | None:
    """Of one server, WAL and all; only where we may mount a small one."""
    side = scene.side
    disk = scene.stage.disks[side]
    if not disk.is_small:
        return None
    scene.note(side)
    scene.crashed()
    disk.fill()

    def mend() -> None:
        disk.free()
        scene.stage.await_server(side)

    return mend


@_fault("terminated sessions", 6)
def terminated_sessions(scene: Scene) -> None:
    """Ours or the application's, at one end."""
    side, whose = scene.side, scene.random.choice((OURS, OURS, THEIRS))
    scene.note(f"{'ours' if whose == OURS else 'theirs'}, {side}")
    with contextlib.suppress(psycopg2.Error):
        scene.stage.sql(side, f"SELECT pg_terminate_backend(pid) FROM ({whose}) AS p", "postgres")


@_fault("cancelled statements", 3)
def cancelled_statements(scene: Scene) -> None:
    """Of ours, at one end."""
    side = scene.side
    scene.note(side)
    with contextlib.suppress(psycopg2.Error):
        scene.stage.sql(side, f"SELECT pg_cancel_backend(pid) FROM ({OURS}) AS p", "postgres")


@_fault("lock", 6)
def lock(scene: Scene) -> Mend | None:
    """A session holds a table, or has written and does not end."""
    side, table = scene.side, scene.random.choice(TABLES)
    mode = scene.random.choice(("ACCESS EXCLUSIVE", "SHARE", "ROW EXCLUSIVE", "write"))
    if mode == "write" and side != scene.home:
        mode = "ROW EXCLUSIVE"
    scene.note(f"{mode} on {table}, {side}")
    try:
        session = scene.stage.connect(side, autocommit=False, options="-c lock_timeout=500ms")
    except psycopg2.Error:
        return None
    statement = f"LOCK TABLE bank.{table} IN {mode} MODE"
    if mode == "write":
        statement = "UPDATE bank.product SET price = price WHERE code = 'p1'"
    try:
        with session.cursor() as cursor:
            cursor.execute(statement)
    except psycopg2.Error:
        session.close()
        return None
    return session.close


@_fault("ddl", 5)
def ddl(scene: Scene) -> None:
    """Somebody changes a definition at the home meanwhile."""
    what = scene.random.choice(tuple(DDL))
    statement = DDL[what].format(table=scene.random.choice(("product", "line")), number=scene.number)
    scene.note(what)
    with contextlib.suppress(psycopg2.Error):
        scene.stage.define(scene.home, statement)
        scene.changed(what, statement)


@_fault("two operators", 7)
def two_operators(scene: Scene) -> None:
    """The same or another job beside it."""
    others = {
        "replicate": ("replicate", "cutover", "stop", "finish"),
        "cutover": ("cutover", "replicate", "finish", "rollback", "stop"),
        "rollback": ("rollback", "cutover", "replicate"),
        "finish": ("finish", "cutover"),
        "stop": ("stop", "replicate"),
    }
    name = scene.random.choice(others[scene.job.name])
    scene.note(name)
    scene.beside(name)


def choose(random_: random.Random, job: str, only: list[str]) -> Fault:
    """A kind for this job."""
    possible = [one for one in FAULTS.values() if (not one.jobs or job in one.jobs) and (not only or one.name in only)]
    if not possible:
        return FAULTS["none"]
    return random_.choices(possible, [one.weight for one in possible])[0]


__all__ = ["FAULTS", "NAME", "Fault", "Scene", "choose"]
