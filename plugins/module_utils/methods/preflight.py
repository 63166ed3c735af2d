# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight: every check on the servers and on each database, and what follows for the choice of method."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import at_once, for_each
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight import (  # noqa: F401  # pylint: disable=unused-import
    access,
    activity,
    amounts,
    beyond_dumps,
    column_values,
    compatibility,
    connections,
    constraints,
    extensions,
    functions,
    homes,
    identity,
    locales,
    network,
    newer_rules,
    owners,
    privileges,
    rehearsed,
    relations,
    replication,
    replication_in_place,
    reserved,
    retention,
    servers,
    settings,
    source_roles,
    target_databases,
    triggers,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import (
    CHECKS,
    LEVELS,
    METHODS,
    Check,
    Finding,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.judgement import (
    by_database,
    next_of,
    recommend,
    waive,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.rates import estimate, measure_reading
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.reachability import (
    describe_unread,
    refused,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import (
    Database,
    Pair,
    PreflightOptions,
    describe,
)

LOCK_TIMEOUT = 3000  # ms; what cannot be looked at because somebody alters it is unknown


def preflight(source: Endpoint, target: Endpoint | None, params: dict) -> dict:
    """Do what pg_preflight documents, up to the report; ``params`` are its parameters. Raises HandoverError."""
    with contextlib.ExitStack() as stack:
        pair = _pair(stack, source, target, params)
        findings = _run([check for check in CHECKS if not check.per_database], pair)
        databases = []
        for found, described in _look_into_all(pair):
            findings += found
            databases.append(described)
        waive(findings, params["waive"])
        concerning = by_database(findings)
        for described in databases:
            found = concerning(described["database"])
            described.update(recommend(found, described["database"], pair.options.method), next=next_of(found))
        return _report(pair, databases, findings)


def _names(source: Side, params: dict) -> list[str]:
    """The databases to look at. Raises HandoverError where there is none: all would be well with nothing."""
    names = catalog.select_databases(source.connection, params["databases"], params["ignore_databases"])
    if not names:
        raise HandoverError(
            "The source has no databases other than templates, postgres, and those in ignore_databases.",
            "Name the databases in databases.",
        )
    return list(dict.fromkeys(names))


def _pair(stack: contextlib.ExitStack, source: Endpoint, target: Endpoint | None, params: dict) -> Pair:
    """Both servers, or only the source. Raises HandoverError where that cannot be reached."""

    options = PreflightOptions(**{name: params[name] for name in PreflightOptions.__dataclass_fields__})
    reached = _side(stack, source)
    pair = Pair(reached, None, _names(reached, params), options)
    if target is not None:
        try:
            pair.target = _side(stack, target)
        except HandoverError as error:
            pair.unreached = error
    return pair


def _side(stack: contextlib.ExitStack, endpoint: Endpoint) -> Side:
    session = endpoint.connect_for_maintenance(read_only=True)
    return Side(endpoint, stack.enter_context(contextlib.closing(session)))


def _look_into_all(pair: Pair) -> list[tuple[list[Finding], dict]]:
    """(findings, description) of each database, in order."""
    if len(pair.databases) == 1:
        return [_look_into(pair, pair.databases[0])]
    return for_each(
        lambda: _Beside(pair), pair.databases, lambda beside, name: _look_into(beside.pair, name), at_once()
    )


class _Beside:
    """The same servers with sessions of their own, for one thread: a check may try things in a transaction."""

    def __init__(self, pair: Pair) -> None:
        self._stack = contextlib.ExitStack()
        try:
            source, target = _side(self._stack, pair.source.endpoint), pair.target
            self.pair = replace(pair, source=source, target=target and _side(self._stack, target.endpoint))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._stack.close()


def _look_into(pair: Pair, name: str) -> tuple[list[Finding], dict]:
    """(findings, description) of one database."""
    try:
        session = pair.source.endpoint.connect(name, read_only=True, lock_timeout=LOCK_TIMEOUT)
    except HandoverError as error:
        described = describe_unread(name)
        return [refused(name, error)], {**described, "estimate": estimate(described, None, None)}
    with contextlib.closing(session) as connection:
        database = Database(pair, name, connection)
        findings = _run([check for check in CHECKS if check.per_database], database)
        described = database.describe()
        reading = measure_reading(database) if pair.options.measure != "none" else None
        return findings, {**described, "estimate": estimate(described, reading, pair.write_rate)}


def _run(checks: list[Check], subject) -> list[Finding]:
    """The findings of these checks; one that could not look is unknown, with the server's reason."""
    findings = []
    for check in checks:
        try:
            if check.needs_target and subject.target is None:
                findings += check.unknown(subject, "There is no target.")
            else:
                findings += check.run(subject)
        except (psycopg2.Error, HandoverError) as error:
            findings += check.unknown(subject, one_line(error))
    return findings


def without_method(report: dict) -> tuple[list[dict], str]:
    """(databases of a report for which no method is left, the sentence that says so)."""
    found = [database for database in report["databases"] if database["recommended_method"] is None]
    wanted = METHODS if report["method"] == "auto" else [report["method"]]
    ids = sorted({one for database in found for method in wanted for one in database["obstacles"][method]})
    names = some([database["database"] for database in found])
    return found, f"Not feasible for {names}: {' and '.join(wanted)}. In the way: {', '.join(ids)}."


def _report(pair: Pair, databases: list[dict], findings: list[Finding]) -> dict:
    """The result, findings worst first."""
    findings.sort(key=lambda finding: (LEVELS.index(finding.level), finding.database or "", finding.id))
    counts = Counter(finding.level for finding in findings if finding.waived is None)
    return {
        "method": pair.options.method,
        "source": describe(pair.source),
        "target": describe(pair.target) if pair.target else None,
        "databases": databases,
        "findings": [finding.as_result() for finding in findings],
        "summary": {
            **{level: counts[level] for level in LEVELS},
            "waived": sum(finding.waived is not None for finding in findings),
        },
    }
