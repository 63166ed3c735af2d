# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rehearsal: everything that a migration does with a database, on some rows of each table, in a database of its own
on the target, which is dropped again.
"""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import (
    Connection,
    Endpoint,
    psycopg2,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.stages import Stages
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import transaction
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog
from ansible_collections.handover.postgresql.plugins.module_utils.facts.capabilities import (
    Capabilities,
    read_capabilities,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.filling import Filling
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.from_snapshot import (
    SnapshotLoader,
    open_snapshot,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.scope import Scope
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.sessions import connect_for_building
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.snapshot_source import (
    SnapshotSource,
    patience_of,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.rehearsal import expressions, trouble
from ansible_collections.handover.postgresql.plugins.module_utils.methods.rehearsal.rolled_back import (
    NO_ROOM,
    RolledBack,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.rehearsal.trial_subscription import (
    try_subscription,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.fitting import OF_ONE_DATABASE
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.encoding import in_unicode
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import databases, target_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.readability import (
    locked_out,
    refuse_unreadable,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.snapshot import export_snapshot
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import (
    import_journal,
    rehearsal_journal,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import rehearsal_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import (
    LEVELS,
    METHODS,
    Finding,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.judgement import recommend, waive
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.rehearsed import ID
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification import descriptions
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.digests import configure
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.outcome import Exclusion, Outcome

# Set for a database of our own only; the one to come is left as it is.
OF_DATABASE = [Exclusion(kind, "*database", "left as it is") for kind in ("owners", "privileges", "settings")]
SHOWN = 160  # letters of a finding in a message
OK = "The target took everything, and it means there what it means on the source."
THERE = "{}, so it is not rehearsed again. To rehearse it all the same, use force: true."


@dataclass
class Run:
    """One run of the module. ``connection`` is the maintenance session on the target."""

    source: Endpoint
    server: catalog.Server
    target: Endpoint
    connection: Connection
    capabilities: Capabilities
    params: dict[str, Any]
    check_mode: bool

    @property
    def methods(self) -> tuple[str, ...]:
        """Those that come into question."""
        return METHODS if self.params["method"] == "auto" else (self.params["method"],)


def rehearse(source: Endpoint, target: Endpoint, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Do what pg_rehearse documents, up to the result; ``params`` are its parameters. Raises HandoverError."""
    with contextlib.closing(source.connect_for_maintenance(read_only=True)) as connection:
        server = catalog.read_server(connection)
        selected = catalog.select_databases(connection, params["databases"], params["ignore_databases"])
    with contextlib.closing(target.connect_for_maintenance()) as connection:
        run = Run(source, server, target, connection, read_capabilities(connection), params, check_mode)
        if not check_mode:
            rehearsal_database.sweep(connection)
        return {
            "source": server.as_result(),
            "target": catalog.read_server(connection).as_result(),
            **_summed([_rehearse_one(run, dbname) for dbname in selected], params),
        }


def without_method(result: dict[str, Any]) -> tuple[list[str], str]:
    """(databases that cannot go by any method asked for, the sentence that says so)."""
    found = [one["database"] for one in result["databases"] if one.get("recommended_method", "") is None]
    met = [one["seen"] for one in result["findings"] if one["level"] == "blocker" and not one["waived"]]
    shown = some([seen if len(seen) < SHOWN else f"{seen[:SHOWN]}..." for seen in met])
    return found, f"The rehearsal of {some(found)} met what stands in the way: {shown}"


def _summed(units: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
    """All findings, worst first, those that the operator accepts marked."""
    findings = [finding for unit in units for finding in unit.pop("findings")]
    waive(findings, [one for one in params["waive"] if one["id"] == ID and _matches(one, findings)])
    for unit in units:
        if "stages" in unit:
            unit.update(recommend(findings, unit["database"], params["method"]))
    findings.sort(key=lambda one: (LEVELS.index(one.level), one.database or ""))
    counts = Counter(finding.level for finding in findings if finding.waived is None)
    waived = sum(finding.waived is not None for finding in findings)
    return {
        "databases": units,
        "findings": [finding.as_result() for finding in findings],
        "summary": {**{level: counts[level] for level in LEVELS}, "waived": waived},
        "changed": False,
    }


def _matches(waiver: dict[str, Any], findings: list[Finding]) -> bool:
    """Whether a waiver is about one of these databases; a run of one hears the waivers of all."""
    return waiver.get("database") in (None, *(one.database for one in findings))


def _rehearse_one(run: Run, dbname: str) -> dict[str, Any]:
    goal = run.params["rename"].get(dbname, dbname)
    unit = {"database": dbname, "target_database": goal}
    try:
        there = None if run.params["force"] else _what_is_there(run, goal)
        if there:
            return {**unit, "findings": _signed([Finding("info", THERE.format(there))], dbname)}
        if run.capabilities.superuser or run.capabilities.createdb:
            return {**unit, **_in_place(run, dbname, goal, rehearsal_database.name_of(goal))}
        reason = _why_not_there(run, goal)
        if reason:
            found = trouble.not_rehearsed(
                f"Role {run.capabilities.role} may make no database on the target, and {reason}.",
                f"On the target, as an administrator: ALTER ROLE ... CREATEDB; or have an empty database made, "
                f'"{goal}", that this role owns, and fill that: create: false (handover_create).',
            )
            return {**unit, "findings": _signed([found], dbname)}
        return {**unit, **_in_place(run, dbname, goal, goal)}
    except psycopg2.errors.LockNotAvailable:
        raise locked_out(run.source, dbname, patience_of(run.params)) from None
    except HandoverError as error:
        raise error.of_database(dbname) from None


def _what_is_there(run: Run, goal: str) -> str:
    """Why nothing is to be rehearsed: what would be brought over is there, or is on its way."""
    if not target_database.is_valid(run.connection, goal) or goal in run.params["replace_databases"]:
        return ""
    with target_database.visit(run.target, run.connection, goal, run.check_mode) as session:
        try:
            has_journal = import_journal.has_schema(session)
        except HandoverError:
            return ""
    return f'The target\'s database "{goal}" is there, or on its way' if has_journal else ""


def _why_not_there(run: Run, goal: str) -> str:
    """Why the database to come is none in which a rehearsal can be rolled back."""
    if not target_database.is_valid(run.connection, goal):
        return f'there is no database "{goal}"'
    with target_database.visit(run.target, run.connection, goal, run.check_mode) as session:
        there = target_database.own_objects(session)
    return f'database "{goal}" is not empty: {some(there, 5)}' if there else ""


def _in_place(run: Run, dbname: str, goal: str, name: str) -> dict[str, Any]:
    """In the database ``name``: one of our own, which is dropped whatever happens, or the one to come, as it was."""
    stages, is_own = Stages(dbname), name != goal
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(
            contextlib.closing(run.source.connect(dbname, read_only=True, lock_timeout=patience_of(run.params)))
        )
        refuse_unreadable(session, dbname)
        if run.check_mode:
            with stages.stage("description of the schema"):
                return {**Filling(_loader(run, session, dbname)).preview(name), "findings": [], "place": name}
        stack.enter_context(rehearsal_database.only_run(run.connection, rehearsal_database.name_of(goal)))
        key = rehearsal_journal.key_of(run.server.system_identifier, dbname)
        kept = _begin(run, key, goal)
        if is_own:
            stack.callback(rehearsal_database.drop, run.connection, name)
            rehearsal_database.drop(run.connection, name)
        findings = _signed(list(_Rehearsal(run, session, dbname, goal, name, stages).findings()), dbname)
        if is_own:
            with stages.stage("removal"):
                rehearsal_database.drop(run.connection, name)
        result = {"stages": stages.as_result(), "notices": [] if kept else [NOT_KEPT]}
        if kept:
            rehearsal_journal.end(run.connection, key, {"findings": [one.as_result() for one in findings]})
        return {**result, "findings": findings}


NOT_KEPT = (
    "The role may make no schema in the database that it connects to on the target, so the preflight will not know "
    "what was found."
)


def _begin(run: Run, key: str, goal: str) -> bool:
    """Whether the journal is kept. It is not where the database to come is the one that is connected to, which has to
    be empty.
    """
    if goal == run.connection.info.dbname or not rehearsal_journal.may_keep(run.connection):
        return False
    rehearsal_journal.begin(run.connection, key, goal)
    return True


def _signed(findings: list[Finding], dbname: str) -> list[Finding]:
    for finding in findings:
        finding.id, finding.database = ID, dbname
    return findings


def _path(source: Endpoint, dbname: str) -> str:
    """The search_path that the database gives to its sessions."""
    with contextlib.closing(source.connect(dbname, read_only=True, pinned=False)) as session:
        return catalog.value(session, "SELECT current_setting('search_path')")


def _loader(run: Run, session: Connection, dbname: str) -> SnapshotLoader:
    """Of some rows, as the real run would have it of all; large objects, which fail in no way of their own, stay."""
    snapshot = export_snapshot(session, serializable_deferrable=False)
    source = SnapshotSource(run.source, dbname, snapshot, session, patience_of(run.params))
    scope = Scope(
        sample=run.params["rehearsal_rows"],
        unlogged=run.params["unlogged_table_data"],
        keys_may_wait=True,
        large_objects=False,
    )
    analyze = "none" if run.params["analyze"] == "none" else "full"  # there are no statistics of a sample
    excluded = [*run.params["exclude_extensions"], *OF_ONE_DATABASE]
    params = {**run.params, "create": True, "analyze": analyze, "exclude_extensions": excluded}
    with ThreadPoolExecutor(1) as aside:
        path = aside.submit(_path, run.source, dbname)
        loader = open_snapshot(source, run.target, run.connection, params, f"rehearsal-{uuid.uuid4()}", scope)
        scope.sample_path = path.result()
    return loader


@dataclass
class _Rehearsal:
    """One database, in the database ``name`` on the target."""

    run: Run
    session: Connection
    dbname: str
    goal: str
    name: str
    stages: Stages

    def findings(self) -> Iterator[Finding]:
        """What is met, in order; at least that all is well."""
        found = list(self._meet())
        yield from found
        if all(one.level in ("info", "ok") for one in found):
            yield Finding("ok", OK)

    def _meet(self) -> Iterator[Finding]:
        yield from self._of_one_database()
        try:
            with self.stages.stage("description of the schema"):
                loader = _loader(self.run, self.session, self.dbname)
        except HandoverError as error:
            if "causes" not in error.facts:  # it is not the target that does not take something
                raise
            yield trouble.ended(error)
            return
        missing = loader.archive.roles_to_import()
        if missing:
            yield trouble.without_roles(missing)
            loader.archive.missing_roles.update(missing)
            for role in missing:
                loader.archive.fitting.forget(role, "the target does not have this role yet")
        if self.name == self.goal:
            yield from self._roll_back(loader, whole=not missing)
        else:
            yield from self._fill(loader, whole=not missing)

    def _fill(self, loader: SnapshotLoader, whole: bool) -> Iterator[Finding]:
        """A database of our own, as any other one."""
        filling = Filling(loader)
        filling.stages = self.stages
        try:
            properties = loader.archive.origin["properties"]
            databases.create(self.run.connection, self.name, properties, self.run.params["locale_map"])
            filling.fill(self.name)
        except HandoverError as error:
            yield trouble.ended(error)
            yield from self._refused(loader)
            return
        yield from self._refused(loader)
        yield from trouble.skipped(self._left_out(loader))
        with target_database.visit(self.run.target, self.run.connection, self.name) as place:
            with transaction(place, end="ROLLBACK"):
                yield from self._look(loader, place, whole)
            if "continuous" in self.run.methods:
                with self.stages.stage("subscription"):
                    yield from self._subscribe(place)

    def _roll_back(self, loader: SnapshotLoader, whole: bool) -> Iterator[Finding]:
        """The empty database, which is empty again afterwards."""
        with contextlib.closing(connect_for_building(loader.archive, self.name)) as place:
            filling = RolledBack(loader, place, self.stages, self.run.params["rehearsal_rows"])
            with filling.transaction():
                try:
                    yield from map(trouble.ended, filling.fill())
                except HandoverError as error:
                    no_room = error.remedy == NO_ROOM
                    yield trouble.not_rehearsed(error.problem, NO_ROOM) if no_room else trouble.ended(error)
                    yield from self._refused(loader)
                    return
                yield from self._refused(loader)
                yield from trouble.skipped(self._left_out(loader))
                with in_unicode(place):
                    yield from self._look(loader, place, whole)
        yield trouble.rolled_back(self.goal)
        if "continuous" in self.run.methods:
            yield trouble.not_rehearsed(
                "The subscription was not tried.",
                "Give the role CREATEDB on the target, and rehearse again; or rely on the preflight.",
                methods=("continuous",),
            )

    def _look(self, loader: SnapshotLoader, place: Connection, whole: bool) -> Iterator[Finding]:
        """What came of it; the session is in a transaction."""
        yield from self._compare(loader, place, whole)
        with self.stages.stage("expressions"):
            yield from self._evaluated(loader, place)

    def _of_one_database(self) -> Iterator[Finding]:
        """Extensions that the real run makes under the database's own name."""
        query = "SELECT extname::text FROM pg_extension WHERE extname = ANY (%s)"
        for (extension,) in catalog.rows(self.session, query, (sorted(OF_ONE_DATABASE),)):
            if extension not in self.run.params["exclude_extensions"]:
                wanted = catalog.value(self.run.connection, "SELECT current_setting('cron.database_name', true)")
                if wanted and wanted != self.goal:
                    yield trouble.of_one_database(extension, wanted, self.goal)
                else:
                    yield trouble.not_rehearsed(
                        f'Extension {extension} can only be made in database "{self.goal}" itself.',
                        "Make sure that the target has it in the same schema and version: "
                        "SELECT * FROM pg_available_extension_versions;",
                    )

    def _refused(self, loader: SnapshotLoader) -> Iterator[Finding]:
        failures = loader.archive.fitting.failures
        for one in failures:
            if not one.needs:
                yield trouble.refused(one, [other.object for other in failures if other.needs == one.object])

    def _left_out(self, loader: SnapshotLoader) -> list[dict[str, Any]]:
        """But for what the operator leaves out, and what is not rehearsed."""
        ours = {"it is in exclude_extensions", "it is in leave_out", "no_privileges is set"}
        return [
            one
            for one in loader.archive.fitting.skipped
            if one["reason"] not in ours and not one["reason"].startswith("needs ")
        ]

    def _compare(self, loader: SnapshotLoader, place: Connection, whole: bool) -> Iterator[Finding]:
        """Definitions of the source and of what was made: what is only spelled otherwise is none of our business."""
        params, outcome = self.run.params, Outcome(OF_DATABASE if self.name == self.goal else [])
        pending = [(one["schema"], one["table"], one["name"]) for one in loader.pending_constraints]
        looks = descriptions.Looks(
            owners=whole and not params["no_owner"],
            privileges=whole and not params["no_privileges"],
            pending=frozenset(pending),
            locale_map=tuple(params["locale_map"].items()),
            not_carried="rehearsals leave large objects aside",
        )
        with self.stages.stage("comparison of definitions"):
            for session in (self.session, place):
                configure(session)
            sessions = {"source": self.session, "target": place}
            try:
                descriptions.compare(sessions, outcome, looks, lambda: contextlib.nullcontext(place))
            except psycopg2.Error as error:
                yield trouble.not_rehearsed(
                    f"The definitions of both ends could not be compared: {one_line(error)}.", "Run it again."
                )
        known = [_plain(one) for one in loader.archive.fitting.skipped]
        known += [_plain(one.as_result()) for one in loader.archive.fitting.failures]
        keys = {f"{name} on {schema}.{table}".replace('"', "") for schema, table, name in pending}
        yield from trouble.different(outcome, [name for name in known if name], keys)

    def _evaluated(self, loader: SnapshotLoader, place: Connection) -> Iterator[Finding]:
        """What is computed from other tables, and what came out otherwise."""
        found = {(one.kind, one.name): one for one in expressions.lookups(place)}
        sample, path = self.run.params["rehearsal_rows"], loader.scope.sample_path or ""
        changed = list(expressions.changed_columns(self.session, place, loader.tables, sample, path))
        for name in changed:
            lookup = found.pop(("column", name), None)
            yield trouble.changed(name, lookup.tables if lookup else ())
        yield from map(trouble.looks_up, found.values())

    def _subscribe(self, place: Connection) -> Iterator[Finding]:
        try:
            try_subscription(self.run, self.session, place, self.dbname, self.name)
        except HandoverError as error:
            yield trouble.not_reached(error)


def _plain(entry: dict[str, Any]) -> str:
    """Of ``VIEW public.seen``, the name; of ``TRIGGER public.orders noted``, that of the trigger; of a cast, as the
    comparison of definitions has it.
    """
    name = entry["object"].removeprefix(entry["class"]).strip().replace('"', "")
    if entry["class"] == "CAST":
        return name.removeprefix("CAST (").removesuffix(")").replace(" AS ", " as ")
    return name.rpartition(" ")[2]
