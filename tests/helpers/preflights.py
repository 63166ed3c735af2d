# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of the preflight's checks use: one look at a database full of defects, and its findings by id."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from support import Cluster, run_module

NEVER = "`false`"  # a fail_on that nothing matches


class Report:
    """What the preflight found: ``findings`` of one database, or of all."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        assert not result["failed"] if "failed" in result else True, result
        self.report = result["report"]
        self.findings = self.report["findings"]

    def of(self, check: str, level: str | None = None, database: str | None = None) -> list[dict[str, Any]]:
        """The findings of one check; there is at least one of every check that ran."""
        found = [one for one in self.findings if one["id"] == check and database in (None, one["database"])]
        assert found, f"{check} did not run: {sorted({one['id'] for one in self.findings})}"
        return [one for one in found if level in (None, one["level"])]

    def levels(self, check: str, database: str | None = None) -> set[str]:
        """The levels of all findings of one check."""
        return {one["level"] for one in self.of(check, database=database)}

    def about(self, check: str, thing: str, database: str | None = None) -> dict[str, Any]:
        """The one finding of a check that names an object."""
        found = [one for one in self.of(check, database=database) if thing in one["objects"]]
        assert len(found) == 1, f"{check} on {thing}: {self.of(check)}"
        return found[0]

    def objects(self, check: str, level: str | None = None, database: str | None = None) -> set[str]:
        """All objects that a check names."""
        return {name for one in self.of(check, level, database) for name in one["objects"]}


def look(
    source: Mapping[str, Any], target: Mapping[str, Any] | None = None, databases: Iterable[str] = (), **options: Any
) -> Report:
    """Run pg_preflight on databases of the source; it may find what it likes without failing."""
    args = {"source": source, "databases": list(databases), "fail_on": NEVER, **options}
    return Report(run_module("pg_preflight", {**args, "target": target} if target else args))


def run_script(cluster: Cluster, dbname: str, script: str, **more: Any) -> None:
    """Run SQL a line at a time: what is a line is a transaction, as some statements demand."""
    with contextlib.closing(cluster.connect(dbname, **more)) as session, session.cursor() as cursor:
        for line in script.splitlines():
            if line.partition("--")[0].strip():
                cursor.execute(line)


def mend(cluster: Cluster, dbname: str, findings: Iterable[Mapping[str, Any]]) -> None:
    """Run the remedies of findings, which have to be SQL as they stand."""
    for finding in findings:
        run_script(cluster, dbname, finding["remedy"])


def own_address() -> str | None:
    """An address of this machine that is not loopback, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # no packet is sent
        return probe.getsockname()[0]
    return None
