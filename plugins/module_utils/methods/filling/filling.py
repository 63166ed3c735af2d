# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filling one empty database: the order of the steps, whatever brings the rows."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError, IncompleteError
from ansible_collections.handover.postgresql.plugins.module_utils.base.stages import Stages
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling import lent_rights, properties
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.loader import Loader
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.restorer import (
    Restorer,
    names_of_objects,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.sessions import choose_compression
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive import foreign_keys, staging
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.archive import edited
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Entry
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.failures import Failure, failure_of
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import statistics
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.source_writes import settled_writes
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal

# As an archive names them: (schema, name).
REMEMBERED = ("exclude_extensions", "no_owner", "no_privileges", "no_tablespaces", "skip_roles")
SHOWN = 20  # failures in a message; the result has all


class Filling:
    """A loader has what is brought and knows how rows get there; the rest is the same for all."""

    def __init__(self, loader: Loader):
        self.loader = loader
        self.archive = loader.archive
        self.stages = Stages(loader.archive.origin["source"]["database"])
        self._former: dict[str, Any] | None = None

    def preview(self, dbname: str) -> dict[str, Any]:
        """What check mode can say: what would be skipped, and the commands."""
        found = self.loader.preview(dbname)
        missing = self.archive.roles_to_import()
        notices = [f"Roles that must be imported first: {', '.join(missing)}."] if missing else []
        return {
            **found,
            "planned_stages": [stage.name for stage in self.loader.stages()],
            "skipped": self.archive.fitting.skipped,
            "edits": self.archive.fitting.edits,
            "notices": [*found["notices"], *notices],
        }

    @property
    def failures(self) -> list[Failure]:
        """Definitions that the target refused, and what needs them. All else is there after ``fill``."""
        return self.archive.fitting.failures

    def require_all(self, dbname: str) -> None:
        """Raise HandoverError that names all that is not there, if a rerun is to make it in this database."""
        if self.failures:
            raise incomplete([one.as_result() for one in self.failures], dbname)

    def go_on(self, former: dict[str, Any]) -> None:
        """Let ``fill`` make what another run, whose result is ``former``, could not, and nothing else."""
        self.archive.origin["dump_id"] = former["dump_id"]
        self.archive.fitting.keep_to({one["object"] for one in former["failures"]})
        self.loader.keep_rows()
        self._former = former

    def fill(self, dbname: str) -> dict[str, Any]:
        """Everything, in order; what is returned is also the journal's record. Raises HandoverError where rows would
        be lost; ``failures`` are what else is not there.
        """
        self._require_roles()
        target = self.archive.target
        with contextlib.closing(target.connect(dbname)) as session, contextlib.ExitStack() as stack:
            origin = self.archive.origin
            import_journal.begin(session, origin["dump_id"], origin["source"])
            self.loader.begin(session, stack)
            if self._former:  # somebody may have made by hand what was pending
                self.archive.fitting.pass_existing(*names_of_objects(session))
            properties.restore_settings_for_contents(self.archive, dbname)
            self._restore(session, dbname, stack)
            self._analyze(session, "tables")
            with self.stages.stage("materialized views"):
                properties.restore_settings(self.archive, dbname)
                self._refresh(dbname)
            self._analyze(session, "materialized views")
            with self.stages.stage("database properties"):
                properties.restore_properties(session, self.archive, dbname)
            result = self._result()
            if self.failures:
                import_journal.keep_pending(session, {**result, "options": options_of(self.archive.params)})
            else:
                writes = settled_writes(session) if self.loader.leaves_alone() else None
                import_journal.complete(session, result, writes)
        return result

    def _require_roles(self) -> None:
        roles = self.archive.roles_to_import()
        if roles:
            raise HandoverError(
                f"The target lacks roles that own objects, have privileges, or are named in policies or user mappings: "
                f"{', '.join(roles)}.",
                "Import the roles first. With no_owner: true and no_privileges: true, only roles that policies or "
                "user mappings name are needed.",
            )

    def _restore(self, session: Connection, dbname: str, stack: contextlib.ExitStack) -> None:
        """Stage by stage, so that an object that is refused is known before rows are loaded, or while the first are."""
        archive = self.archive
        obtainable = lent_rights.take_ownership(archive, self.loader.owners_elsewhere(), stack)
        place = edited(archive.contents, stack)
        restorer = Restorer(archive, session, place, obtainable, self.stages)
        stack.callback(restorer.close)
        archive.toast_compression = choose_compression(archive, restorer.prepared)
        import_journal.undo(session)  # of a run that was killed: what it did for a while does not look so any more
        stack.callback(lent_rights.try_to_undo, session)
        stages = self.loader.stages()
        with_rows = next((stage for stage in stages if stage.name not in ("schemas", "definitions")), None)
        for stage in stages:
            if stage is with_rows:
                lent_rights.grant_for_building(archive, restorer.prepared)
            if stage.name == "definitions" and not archive.capabilities.superuser:
                lent_rights.let_owners_create(session)
            if stage.name == "privileges":
                import_journal.undo(session)
            if stage.name != "last":
                self._run(stage, restorer)
        import_journal.undo(session)
        lent_rights.open_public_schema(session, archive)
        for stage in stages:
            if stage.name == "last":  # event triggers, which act on what sessions like this one do from then on
                self._run(stage, restorer)
        restorer.close()  # the target counts what was written when sessions end

    def _run(self, stage: staging.Stage, restorer: Restorer) -> None:
        with self.stages.stage(stage.name):
            self.loader.run(stage, restorer)

    def _analyze(self, session: Connection, kind: str) -> None:
        archive, mode = self.archive, self.archive.params["analyze"]
        if mode != "none":
            with self.stages.stage("analyze"):
                statistics.analyze(
                    session,
                    lambda: archive.target.connect(session.info.dbname),
                    archive.jobs,
                    kind,
                    stages=mode == "in_stages",
                    only_lacking=self._former is not None or self.loader.has_analyzed(),
                )

    def _refresh(self, dbname: str) -> None:
        """Under the database's own settings: the contents of a view may depend on its time zone."""
        views = staging.refreshes(self.archive.fitting.remaining())
        if views and self.archive.params["refresh_materialized_views"]:
            with contextlib.closing(self.archive.target.connect(dbname, pinned=False)) as session:
                for view, error in statistics.refresh(session, list(views)).items():
                    self.archive.fitting.fail(failure_of(views[view], error, error.pgcode))

    def _result(self) -> dict[str, Any]:
        counts, fitting = self.loader.compared, self.archive.fitting
        result = {
            "dump_id": self.archive.origin["dump_id"],
            "client": self.archive.client.version,
            "restored": dict(sorted(Counter(entry.desc for entry in fitting.remaining()).items())),
            "skipped": fitting.skipped,
            "edits": fitting.edits,
            "toast_compression": self.archive.toast_compression,
            "failures": [one.as_result() for one in self.failures],
            "rows_compared": sum(count["rows"] for count in counts) if counts is not None else None,
            "tables_compared": len(counts) if counts is not None else None,
            "stages": self.stages.as_result(),
            "unchecked": [one for one in map(_as_unchecked, self.archive.unchecked) if one],
            **self.loader.result(),
        }
        return _together(self._former, result) if self._former else result


def options_of(params: dict[str, Any]) -> dict[str, Any]:
    """What a rerun has to be given, too, to go on with what is there."""
    values = {name: params.get(name) for name in REMEMBERED}
    return {name: sorted(value) if isinstance(value, list) else value for name, value in values.items()}


def incomplete(failures: list[dict[str, Any]], dbname: str) -> IncompleteError:
    """What is said of definitions that are not there: all of them, and what helps."""
    tried = [one for one in failures if not one["needs"]]
    keys = [one for one in tried if one["query"]]
    views = any(one["class"] == "MATERIALIZED VIEW DATA" for one in tried)
    remedy = (
        f'Fix the causes in database "{dbname}" of the target, then run this again: it makes only these. '
        "Or name those that it is to be complete without in leave_out (handover_leave_out)."
    )
    if views:
        remedy += " With refresh_materialized_views: false, materialized views are left empty."
    if keys:
        remedy += " The queries in failures show the rows that break foreign keys, such as " + keys[0]["query"]
    return IncompleteError(
        f"All rows are there, but {counted(len(tried), 'definition')} could not be made: "
        f"{'; '.join(one['object'] + ': ' + one['message'].rstrip('.') for one in tried[:SHOWN])}"
        f"{f'; and {len(tried) - SHOWN} more' if len(tried) > SHOWN else ''}.",
        remedy,
        failures=failures,
    )


def _as_unchecked(entry: Entry) -> dict[str, Any] | None:
    key = foreign_keys.parse(entry.definition or "")
    return {"object": entry.name, "statement": key.validation, "query": key.orphans} if key else None


def _together(former: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """The result of two runs, the latter of which has made what the former had not."""
    restored = Counter(former["restored"])
    restored.update(result["restored"])
    lists = {name: former[name] + result[name] for name in ("skipped", "edits", "unchecked", "stages")}
    lists["skipped"] = [one for number, one in enumerate(lists["skipped"]) if one not in lists["skipped"][:number]]
    lists["edits"] = former["edits"]
    former = {name: value for name, value in former.items() if name != "options"}
    return {**former, **lists, "restored": dict(sorted(restored.items())), "failures": result["failures"]}
