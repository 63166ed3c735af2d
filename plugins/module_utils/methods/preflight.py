# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight: every check on the servers and on each database, and what follows for the choice of method."""

from __future__ import annotations

import contextlib
from collections import Counter

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight import (  # noqa: F401
    replication,  # pylint: disable=unused-import
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import (
    CHECKS,
    LEVELS,
    METHODS,
    Check,
    Finding,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import (
    Database,
    Options,
    Pair,
    Side,
)


def preflight(source: Endpoint, target: Endpoint | None, params: dict) -> dict:
    """Do what pg_preflight documents, up to the report; ``params`` are its parameters. Raises HandoverError."""
    with contextlib.ExitStack() as stack:
        sides = [_side(stack, endpoint) for endpoint in (source, target)]
        options = Options(**{name: params[name] for name in Options.__dataclass_fields__})
        names = catalog.select_databases(sides[0].connection, params["databases"], params["ignore_databases"])
        pair = Pair(sides[0], sides[1], names, options)
        findings = _run([check for check in CHECKS if not check.per_database], pair)
        databases = []
        for name in names:
            found, described = _look_into(pair, name)
            findings += found
            databases.append(described)
        _waive(findings, params["waive"])
        for described in databases:
            _recommend(described, findings, options)
        return _report(pair, databases, findings)


def _side(stack: contextlib.ExitStack, endpoint: Endpoint | None) -> Side | None:
    if endpoint is None:
        return None
    return Side(endpoint, stack.enter_context(contextlib.closing(endpoint.connect_for_maintenance(read_only=True))))


def _look_into(pair: Pair, name: str) -> tuple[list[Finding], dict]:
    """(findings, description) of one database."""
    with contextlib.closing(pair.source.endpoint.connect(name, read_only=True)) as connection:
        database = Database(pair, name, connection)
        findings = _run([check for check in CHECKS if check.per_database], database)
        return findings, catalog.describe_database(connection, name)


def _run(checks: list[Check], subject) -> list[Finding]:
    """The findings of these checks; one that could not look is unknown, with the server's reason."""
    findings = []
    for check in checks:
        try:
            if check.needs_target and subject.target is None:
                findings += check.unknown(subject, "No target was given.")
            else:
                findings += check.run(subject)
        except (psycopg2.Error, HandoverError) as error:
            findings += check.unknown(subject, " ".join(str(error).split()))
    return findings


def _waive(findings: list[Finding], waivers: list[dict]) -> None:
    """Mark what the operator accepts. A waiver that matches nothing is a finding itself."""
    for waiver in waivers:
        matching = [finding for finding in findings if _matches(finding, waiver)]
        for finding in matching:
            finding.waived = waiver["reason"]
        if not matching:
            seen = f"The waiver of {waiver['id']} matches no finding."
            stale = Finding("warning", seen, "It may hide something later.", "Remove it from waive, or correct it.")
            stale.id, stale.database = "waivers", waiver.get("database")
            findings.append(stale)


def _matches(finding: Finding, waiver: dict) -> bool:
    """The same id and database, and no object beyond those that the waiver names, if it names any."""
    if finding.level == "ok" or finding.id != waiver["id"]:
        return False
    if waiver.get("database") not in (None, finding.database):
        return False
    return not waiver.get("objects") or (
        bool(finding.objects) and set(finding.objects) <= set(waiver["objects"])
    )


def _recommend(described: dict, findings: list[Finding], options: Options) -> None:
    """Which methods are feasible for a database, which one is best, and why."""
    obstacles = {method: [] for method in METHODS}
    for finding in findings:
        if finding.level == "blocker" and not finding.waived and finding.database in (None, described["database"]):
            for method in finding.methods:
                obstacles[method].append(f"{finding.id}: {finding.seen}")
    feasible = [method for method in METHODS if not obstacles[method]]
    wanted = [method for method in ("continuous", "dump") if options.method in ("auto", method)]
    described["feasible_methods"] = feasible
    described["recommended_method"] = next((method for method in wanted if method in feasible), None)
    described["obstacles"] = obstacles


def _report(pair: Pair, databases: list[dict], findings: list[Finding]) -> dict:
    """The result, findings worst first."""
    findings.sort(key=lambda finding: (LEVELS.index(finding.level), finding.database or "", finding.id))
    counts = Counter(finding.level for finding in findings)
    return {
        "source": pair.source.describe(),
        "target": pair.target.describe() if pair.target else None,
        "databases": databases,
        "findings": [finding.as_result() for finding in findings],
        "summary": {
            **{level: counts[level] for level in LEVELS},
            "waived": sum(finding.waived is not None for finding in findings),
        },
    }
