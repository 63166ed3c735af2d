# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An application changes its schema all the time, by chance, from the first wave to the way back."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cutovers import CLERK, USERS, await_commits, handed_over, options
from dumps import done
from followings import assert_equal, begun
from migrations import in_step, start_migration
from redefinitions import HOURS, OF_COLUMNS, Application
from support import Cluster, run_module

from lab import bank
from lab.bank import Bank

CHANGES = int(os.environ.get("HANDOVER_FOLLOWING_CHANGES", "50"))
SEED = int(os.environ.get("HANDOVER_FOLLOWING_SEED", "1"))
A_LOOK = 7  # changes from one look to the next
MORE = (
    f"""; {HOURS}; CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TABLE t (id int PRIMARY KEY, a text, b integer)"""
)
OWNED = """
    GRANT CREATE ON SCHEMA public TO keeper; ALTER TYPE mood OWNER TO keeper; ALTER SCHEMA bank OWNER TO keeper;
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT oid::regclass FROM pg_class WHERE relkind IN ('r', 'p')
                    AND relnamespace IN ('public'::regnamespace, 'bank'::regnamespace) LOOP
            EXECUTE format('ALTER TABLE %s OWNER TO keeper', name);
        END LOOP; END $$"""


@contextlib.contextmanager
def opened(*applications: Application) -> Iterator[None]:
    """Their sessions end with the block."""
    with contextlib.ExitStack() as stack:
        for one in applications:
            stack.callback(one.close)
        yield


@contextlib.contextmanager
def errors_shown(*clusters: Cluster) -> Iterator[None]:
    """What stopped apply is in the log of a server alone, which goes with the test."""
    try:
        yield
    except AssertionError:
        for cluster in clusters:
            lines = cluster.log.read_text(errors="replace").splitlines()
            found = [line for line in lines if "ERROR:" in line or "CONTEXT:" in line]
            print(f"{cluster.build.major}:", *found[-8:], sep="\n")
        raise


@pytest.mark.parametrize("majors", [(13, 18), (15, 19), (18, 18)], ids=lambda pair: "-".join(map(str, pair)))
def test_changes_by_chance(servers: Callable[..., Cluster], pooler: Callable[..., Any], majors: tuple) -> None:
    """Rows of each definition are written, runs are killed; then it is handed over under clients, none of which fails,
    goes on there, and comes back.
    """
    source, target = servers(majors[0]), servers(majors[1], "1" if majors[0] == majors[1] else "")
    for cluster in (source, target):
        cluster.sql("postgres", f"CREATE ROLE keeper; CREATE ROLE clerk LOGIN PASSWORD $${CLERK['password']}$$")
    login: Any = target
    if majors[1] < 19:
        attributes, grants = ("CREATEDB", "CREATEROLE", "REPLICATION"), ["pg_create_subscription", "keeper"]
        login = target.managed_admin(attributes=attributes, grants=grants)

    def fill() -> None:
        bank.create(source.connect, "yard", role="clerk")
        source.sql("yard", OWNED)

    begun(source, target, MORE, login, fill)
    given: dict[str, Any] = {"databases": ["yard"], "follow_schema": True}
    front = pooler(source, users=USERS)
    application = Application(source, "yard", SEED, role="keeper")
    other = Application(source, "yard", SEED, role="keeper", number=10**6)
    with (
        errors_shown(target, source),
        opened(application, other),
        Bank(front.endpoint(**CLERK), "yard", rate=30) as load,
    ):
        for number in range(1, CHANGES + 1):
            application.change()
            application.write()
            if number % A_LOOK and number < CHANGES:
                continue
            if application.chance.random() < 0.5:
                running = start_migration(source, login, **given)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.process.wait(application.chance.uniform(0.2, 3))
                running.kill_family()
            with other.writing():
                found = in_step(source, login, **given)
            assert not [text for text in found["notices"] if "Not followed" in text]
        assert in_step(source, login, **given)["drift"] == []
        assert_equal(source, login)
        change_columns(source, SEED + 1)
        front.lead("yard", target)
        handed_over(run_module("pg_cutover", options(source, login, front, **given)))
        await_commits(load)
        change_columns(target, SEED + 2)
        watch(source, login, **given)
        change_columns(target, SEED + 3)
        front.lead("yard", source)
        handed_over(run_module("pg_cutover", options(source, login, front, direction="back", **given)))
        await_commits(load)
    assert load.failures == [] and load.problems(source.connect("yard")) == []
    assert_equal(source, login)


def watch(source: Cluster, login: Any, **given: Any) -> None:
    """Whatever was changed is followed."""
    target = login.endpoint() if isinstance(login, Cluster) else login
    [seen] = done(run_module("pg_migration_watch", {"source": source.endpoint(), "target": target, **given})).databases
    assert seen["not_followed"] is None and seen["followed"], seen


def change_columns(cluster: Cluster, seed: int) -> None:
    """A few changes that need no copy, with rows of each definition."""
    application = Application(
        cluster, "yard", seed, rewrites=False, role="keeper", number=seed * 10**7, kinds=OF_COLUMNS
    )
    with opened(application):
        for _change in range(5):
            application.change()
            application.write(1)
