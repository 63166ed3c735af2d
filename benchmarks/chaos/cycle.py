# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One cycle: a database is replicated, handed over, brought back, finished; each job under one fault, then run again
until it is done. What was found wrong is in the outcomes.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg2

from benchmarks.chaos import faults
from benchmarks.chaos.invariants import Before, OneHome, Secrets, accepts, but_for_the_fence
from benchmarks.chaos.jobs import Job, Nursery
from benchmarks.chaos.ledger import Ledger
from benchmarks.chaos.stage import NAME, Stage
from lab import builds

PLANS = {
    ("replicate", "cutover", "rollback", "cutover", "finish"): 5,
    ("replicate", "cutover", "finish"): 3,
    ("replicate", "cutover", "rollback", "finish"): 1,
    ("replicate", "stop"): 1,
}
STEPS = (
    "pause",
    "lock",
    "beacon",
    "apply",
    "drift",
    "sequences",
    "fence",
    "slot",
    "commit",
    "open",
    "reload",
    "resume",
)
USUAL = {"replicate": 330, "cutover": 190, "rollback": 190, "finish": 70, "stop": 60}  # events
SECONDS, WEIGHTS = (0.05, 0.3, 1.0, 2.0, 5.0), (3, 4, 3, 2, 1)  # how long a fault lasts
HANG = 120  # seconds after which a job hangs
PATIENCE = 75  # seconds in which a job has to succeed, once nothing is in its way any more
MADE = ("bank.new_", "'new_", "more_", "product_price")  # by DDL of this program
OTHER = {"source": "target", "target": "source"}

# Words of a refusal that is right where somebody else was at work -> what to do: run that job, or leave it.
OVER = {
    "was handed over": "", "There is nothing to roll back": "", "was not handed over": "", "has no journal": "",
    "cannot be handed over: it is still": "replicate", "cannot be rolled back: it is still": "replicate",
    "rollback was begun and not completed": "rollback", "handover was begun and not completed": "cutover",
    "was stopped": "replicate", "Its migration was stopped": "replicate", "It is not over": "",
    "No migration of it": "", "no such migration": "", "nothing of a migration": "",
}  # fmt: skip


def _was_out_of_reach(result: dict[str, Any]) -> bool:
    """Whether an end could not be cleaned up, so that the same job is to be run again when it is back."""
    notices = [text for one in result.get("databases") or [] for text in one.get("notices") or []]
    return any("Cannot connect to the" in text for text in notices)


@dataclass
class Outcome:
    """What became of one job under one fault."""

    cycle: int
    pair: str
    job: str
    fault: str
    detail: str = ""
    moment: str = ""
    first: str = ""  # completed, refused, killed: the run that was hit
    last: str = ""  # completed, refused
    runs: int = 1
    seconds: float = 0.0
    said: str = ""
    violations: list[str] = field(default_factory=list)


class AbandonedError(Exception):
    """A job does not come to its end: the cycle is over."""


class Cycle:
    """One of them, on a lane's stage. ``tell`` gets each outcome."""

    def __init__(
        self, stage: Stage, nursery: Nursery, seed: int, number: int, only: list[str], tell: Callable[[Outcome], None]
    ) -> None:
        self.stage, self.nursery, self.number, self.only, self.tell = stage, nursery, number, only, tell
        self.random = random.Random(f"{seed} {number}")
        self.plan = self.random.choices(list(PLANS), list(PLANS.values()))[0]
        self.waves = self.random.choice((1, 1, 2))
        self.lifts = self.random.random() < 0.5
        self.home = "source"
        self.replaces = False
        self.has_ended = False  # before the plan was at its end: somebody else has, or there was no way on
        self.last = self.plan[-1]  # the job that ended it
        self.changes: list[tuple[str, str, str]] = []  # the home, kind and statement of DDL
        self.besides: list[Job] = []
        self.outcome = Outcome(number, "", "", "")

    def run(self) -> None:
        """All jobs of the plan; what is left at the end."""
        self.stage.begin()
        self.before = Before(self.stage)
        settings = self._pooler_settings()
        self.secrets = Secrets(self.stage, self.nursery.place)
        self.homes = OneHome(self.stage)
        self.ledger = Ledger(self.stage, self.number)
        try:
            for name in self.plan:
                self._take(name)
                if self.has_ended:
                    break
        except AbandonedError:
            return
        finally:
            self.homes.stop()
            self.secrets.stop()
            with contextlib.suppress(Exception):  # what it could not do is seen in what it knows
                self.ledger.stop()
        self._look_back(settings)

    # --- one job -----------------------------------------------------------------------------------------------------

    def _take(self, name: str) -> None:
        fault = faults.choose(self.random, name, self.only)
        pair = ":".join(map(str, self.stage.majors))
        self.outcome = Outcome(self.number, pair, name, fault.name)
        began = time.monotonic()
        try:
            try:
                self._under(fault, name)
                self._judge_between()
                if self.outcome.first != "completed" or fault.name == "two operators":
                    self._again(name)
                else:
                    self.outcome.last = "completed"
                self._judge(name)
            except psycopg2.Error as error:
                self._violated(f"a server is not as it should be: {' '.join(str(error).split())}")
                raise AbandonedError from None
            if self.outcome.violations:
                raise AbandonedError
        finally:
            self.outcome.seconds = round(time.monotonic() - began, 1)
            self.tell(self.outcome)

    def _under(self, fault: faults.Fault, name: str) -> None:
        """The run that is hit."""
        draw = self.random
        if name in faults.WINDOWS and draw.random() < 0.5:
            at: Any = draw.choice(STEPS)
        else:
            at = draw.randint(1, USUAL[name])
        hold, offset, seconds = draw.random() < 0.6, draw.random() * 0.05, draw.choices(SECONDS, WEIGHTS)[0]
        if fault.name == "failover":  # before the commit: what only the new home has is lost with it, whoever looks
            at, hold = draw.choice((*STEPS[: STEPS.index("commit")], *range(1, 60))), True
            self._fall_behind(OTHER[self.home])
            self._verify()
        job = self._start(name, at, hold, by_playbook=fault.name == "kill playbook")
        scene = faults.Scene(
            self.stage, job, draw, self.home, self.number, self._beside, self._note, self._crashed, self._changed
        )
        if fault.name == "kill playbook":
            job.wait(0.5 + draw.random() * 12)
        else:
            job.await_moment(HANG)
        if not hold:
            time.sleep(offset)
        self.outcome.moment = f"{at}: {job.reached}"
        mend = fault.strike(scene)
        if hold:
            if fault.name == "two operators":
                job.wait(min(seconds, 1))
            job.let_go()
        if mend:
            job.wait(seconds)
            mend()
        self.outcome.first = self._end(job)
        if fault.name == "none":
            self._note(f"{job.events} events")
        for beside in self.besides:
            self._end(beside)
        self.besides = []
        self.stage.revive()
        self._note_said(job)

    def _fall_behind(self, side: str) -> None:
        """A copy of an end, and what is replicated to it since."""
        self.stage.back_up(side)
        query = "SELECT count(*) FROM bank.ledger"
        before, deadline = self.stage.sql(side, query), time.monotonic() + 20
        while self.stage.sql(side, query) == before and time.monotonic() < deadline:
            time.sleep(0.05)

    def _start(self, name: str, at: Any = None, hold: bool = False, by_playbook: bool = False) -> Job:
        if name in faults.WINDOWS:
            self.stage.lead("target" if name == "cutover" else "source")
        if name == "stop" or (name == "finish" and self.lifts):
            self.homes.armed = False
        if by_playbook:
            return self.nursery.start_playbook(name, name, self._inventory(), {})
        return self.nursery.start(name, *self._module(name), at=at, hold=hold)

    def _beside(self, name: str) -> Job:
        if name == "stop" or (name == "finish" and self.lifts):
            self.homes.armed = False
        job = self.nursery.start(name, *self._module(name))
        self.besides.append(job)
        return job

    def _end(self, job: Job) -> str:
        """How a run ended; a hang and a word that is none are violations."""
        if not job.wait(HANG):
            job.send(10)  # it writes where it is
            time.sleep(0.5)
            self._violated(f"{job.name} hangs: {job.output[-3000:]}")
            job.end()
            job.wait(10)
            return "killed"
        result = job.result
        if result is None:
            if job.status and job.status > 0 and job.status not in (130, 143):
                self._violated(f"{job.name} ended without a result: {job.output[-3000:]}")
            return "killed"
        if not result.get("failed"):
            if job.name in faults.WINDOWS:  # whatever becomes of the jobs after it
                self.home = "target" if job.name == "cutover" else "source"
            return "refused" if _was_out_of_reach(result) else "completed"
        words = result.get("msg", "")
        if "Traceback" in job.output or not words or not result.get("remedy"):
            self._violated(f"{job.name} refused without a remedy: {job.output[-3000:]}")
        if job.name in faults.WINDOWS and result.get("handed_over") is False:
            with contextlib.suppress(psycopg2.Error):
                self.stage.lead(self.home, reload=True)
        return "refused"

    # --- again and again ---------------------------------------------------------------------------------------------

    def _again(self, name: str) -> None:
        """Run it until it succeeds, or refuses for good and rightly."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self.outcome.runs += 1
            job = self._start(name)
            self.outcome.last = self._end(job)
            if self.outcome.last == "completed":
                return
            self._note_said(job)
            if self._is_over(name, self.outcome.said):
                return
            if self.outcome.fault == "failover" and self._is_lost():
                return
            if time.monotonic() > deadline:
                self._violated(f"{name} does not succeed: {self.outcome.said}")
                raise AbandonedError
            time.sleep(0.3)

    def _is_over(self, name: str, said: str) -> bool:
        """After a refusal: do what it asks for; whether nothing is left to do."""
        if self.changes and any(word in said for word in ("redefined", "changed", "new_", "more_", "replicate")):
            self._repeat_changes()
        if self.outcome.fault not in ("two operators", "kill playbook"):
            return False
        todo = next((todo for words, todo in OVER.items() if words in said), None)
        if todo is None:
            return False
        if todo == "" or todo == name:
            if "was stopped" in said:
                self.replaces = True
                return False
            if name != "replicate":
                self.has_ended, self.last = True, ""
            self._find_home()
            return True
        self.replaces = "was stopped" in said
        other = self._start(todo)
        self._end(other)
        self._find_home()
        return False

    def _is_lost(self) -> bool:
        """After a refusal: what docs/continuous.md says of changes that were lost. Whether that ends the migration."""
        if self._verify():
            return False
        if self.home == "source":
            self._end(self.nursery.start("replicate", *self._module("replicate", refresh=True)))
            if self._verify():
                self._note(f"{self.outcome.detail}, copied again")
                return False
        self.last = "stop" if self.home == "source" else "finish"
        self.has_ended = True
        self._note(f"{self.outcome.detail}, then {self.last}")
        self._again_quietly(self.last)
        return True

    def _verify(self) -> bool:
        """Whether both ends are found equal."""
        job = self.nursery.start("verify", *self._module("verify"))
        if not job.wait(HANG):
            self._violated(f"verify hangs: {job.output[-3000:]}")
            job.end()
        found = job.result or {}
        if found.get("failed") and "databases" not in found:
            self._note_said(job)
        return bool(found) and not found.get("failed")

    def _again_quietly(self, name: str) -> None:
        """Another job, which has to succeed."""
        deadline = time.monotonic() + PATIENCE
        job = self._start(name)
        while self._end(job) != "completed":
            if time.monotonic() > deadline:
                self._violated(f"{name} does not succeed: {(job.result or {}).get('msg')}")
                return
            time.sleep(0.3)
            job = self._start(name)

    def _repeat_changes(self) -> None:
        """The same definitions at the other end; then they are taken over."""
        for home, _what, statement in self.changes:
            with contextlib.suppress(psycopg2.Error):
                self.stage.define(OTHER[home], statement)
        job = self.nursery.start("replicate", *self._module("replicate", refresh=True))
        self._end(job)
        if "Undo that" in (job.result or {}).get("msg", ""):
            for side in OTHER:
                self.stage.sql(side, f"SET transaction_read_only = off; DROP TABLE IF EXISTS bank.new_{self.number}")
            self.changes = [one for one in self.changes if one[1] != "create table"]

    # --- what is judged ----------------------------------------------------------------------------------------------

    def _judge_between(self) -> None:
        """After a fault, whatever became of the job."""
        asked = {side: accepts(self.stage, side) for side in OTHER}
        at_home = [side for side, answer in asked.items() if answer]
        if len(at_home) == 1:
            self._problems(at_home[0], "after the fault")

    def _judge(self, name: str) -> None:
        """After a job that is done."""
        if self.outcome.last == "completed" and name in faults.WINDOWS:
            self.home = "target" if name == "cutover" else "source"
        elif self.outcome.fault == "two operators":
            self._find_home()
        if name in faults.WINDOWS and self.outcome.last == "completed":
            asked = {side: accepts(self.stage, side) for side in OTHER}
            if asked != {self.home: True, OTHER[self.home]: False}:
                self._violated(f"the home is to be the {self.home}, and writes are taken: {asked}")
        if self.outcome.fault in ("two operators", "kill pooler", "kill playbook"):
            self.stage.lead(self.home, reload=True)
        if slow := self.ledger.progress(20):
            self._violated(slow)
        self._problems(self.home, "in the end")
        self.outcome.violations += self.homes.found
        self.secrets.look_at_files()
        self.outcome.violations += sorted(set(self.secrets.found))[:5]

    def _problems(self, side: str, when: str) -> None:
        for text in self.ledger.problems(side):
            self._violated(f"{when}, at the {side}: {text}")

    def _look_back(self, settings: dict[str, str]) -> None:
        """When all is over: the last word of the ledger, catalogs, the pooler, processes and sessions."""
        self.outcome = Outcome(self.number, ":".join(map(str, self.stage.majors)), "(cycle)", "(end)")
        self._problems(self.home, "at last")
        if self.last in ("finish", "stop"):
            self.outcome.violations += self._traces()
        if (now := self._pooler_settings()) != settings:
            self._violated(f"the pooler's settings were {settings} and are {now}")
        if paused := [one["name"] for one in self.stage.pooler.console("SHOW DATABASES") if one["paused"]]:
            self._violated(f"the pooler holds {paused}")
        if self.homes.asked < 5:
            self._violated("nobody could ask which end is the home")
        self.tell(self.outcome)

    def _traces(self) -> list[str]:
        """What is left; a server needs a moment to end what it was told to."""
        deadline = time.monotonic() + 5
        while True:
            ends = {"source": self.before.source()}
            if self.last == "finish":
                ends["target"] = self.before.target()
                if not self.lifts:
                    ends[OTHER[self.home]] = but_for_the_fence(ends[OTHER[self.home]])
            found = [
                f"{side} {text}"
                for side, texts in ends.items()
                for text in texts
                if not any(word in text for word in MADE)
            ]
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.2)

    def _find_home(self) -> None:
        asked = [side for side in OTHER if accepts(self.stage, side)]
        if len(asked) == 1:
            self.home = asked[0]
        elif self.outcome.first == "completed" and self.outcome.job in faults.WINDOWS:  # and then the fence was lifted
            self.home = "target" if self.outcome.job == "cutover" else "source"

    def _pooler_settings(self) -> dict[str, str]:
        names = ("min_pool_size", "server_login_retry")
        return {one["key"]: one["value"] for one in self.stage.pooler.console("SHOW CONFIG") if one["key"] in names}

    # --- small things ------------------------------------------------------------------------------------------------

    def _violated(self, text: str) -> None:
        self.outcome.violations.append(text)

    def _note(self, detail: str) -> None:
        self.outcome.detail = detail

    def _note_said(self, job: Job) -> None:
        self.outcome.said = " ".join(str((job.result or {}).get("msg", "")).split())[:1500]

    def _crashed(self) -> None:
        self.ledger.has_crashed = True

    def _changed(self, what: str, statement: str) -> None:
        self.changes.append((self.home, what, statement))

    def _module(self, name: str, **more: Any) -> tuple[str, dict[str, Any]]:
        """The module that does a job, and its arguments."""
        stage = self.stage
        given = {
            "source": stage.endpoint("source"),
            "target": stage.endpoint("target"),
            "databases": [NAME],
            "replication": stage.between("target", "source"),
        }
        clients = [str(builds.build(builds.CLIENT_MAJOR).bin)]
        if name in faults.WINDOWS:
            direction = "forward" if name == "cutover" else "back"
            return "pg_cutover", {
                **given,
                "direction": direction,
                "deadline": "4s",
                "require_verification": self.outcome.fault == "failover",
                "poolers": [stage.console()],
                "reverse": "rollback" in self.plan or None,
                "reverse_replication": stage.between("source", "target"),
                **more,
            }
        if name == "verify":
            del given["replication"]
            return "pg_verify", {**given, "jobs": 2, **more}
        given |= {"client_directory": clients, "jobs": 2, "timeout": 30, "slot_patience": 10, "waves": self.waves}
        if name == "replicate":
            replace = {"replace": True, "replace_databases": [NAME]} if self.replaces else {}
            return "pg_logical_migrate", {**given, **replace, **more}
        states = {"finish": "finished", "stop": "stopped"}
        return "pg_logical_migrate", {**given, "state": states[name], "lift_fence": self.lifts, **more}

    def _inventory(self) -> dict[str, Any]:
        """The same for playbooks."""
        stage = self.stage
        pooler = {**stage.console(), "config_file": str(stage.pooler.directory / "pgbouncer.ini")}
        return {"all": {"hosts": {"lab": {
            "ansible_connection": "local", "handover_source": stage.endpoint("source"),
            "handover_target": stage.endpoint("target"), "handover_databases": [NAME], "handover_poolers": [pooler],
            "handover_replication": stage.between("target", "source"),
            "handover_reverse_replication": stage.between("source", "target"),
            "handover_require_verification": False, "handover_deadline": "4s", "handover_lift_fence": self.lifts,
            "handover_dump_directory": str(self.nursery.place / "roles"),
        }}}}  # fmt: skip
