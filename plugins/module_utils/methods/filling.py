# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filling one empty database from an archive: fitted to the target, stage by stage, analysed."""

from __future__ import annotations

import contextlib
from collections import Counter

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.progress import Stages
from ansible_collections.handover.postgresql.plugins.module_utils.facts import clients
from ansible_collections.handover.postgresql.plugins.module_utils.facts.capabilities import read_capabilities
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive import archive, script, staging
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import STATISTICS, Contents
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.dump_options import jobs_for
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.edits import with_set_role
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.fitting import Fitting
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import databases, statistics
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.target_database import execute
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import role_import
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.ownership import temporary_memberships


class Filling:
    """An archive and what becomes of it on the target. ``connection`` is the maintenance session there.

    ``origin`` describes the database on the source: what origin.describe says, ``source``, ``dump_id``, and ``client``,
    the version of pg_dump. How its rows get there is up to subclasses, which know where they are.
    """

    def __init__(self, target: Endpoint, connection, params: dict, origin: dict, contents: Contents):
        self.target = target
        self.connection = connection
        self.params = params
        self.origin = origin
        self.stages = Stages()
        self.place = None
        self.programs = None
        self.compared = None
        self.obtainable = set()  # roles that objects can be given to
        self.capabilities = read_capabilities(connection)
        self.client = clients.choose_for_restore(
            clients.find_clients(params["client_directory"]),
            clients.major_of(origin["client"]),
            self.capabilities.major,
            params["client_directory"],
        )
        self.jobs = jobs_for(params["jobs"], sum(entry.desc == "TABLE DATA" for entry in contents.entries))
        self.fitting = Fitting(contents, params["exclude_extensions"])
        self.fitting.fit(self.capabilities, params["no_privileges"])
        self.missing_roles = self._fit_missing_roles()

    # Before anything is touched

    def preview(self, dbname: str) -> dict:
        """What check mode can say: what would be skipped, and the commands."""
        names = [stage.name for stage in self._stages()]
        command = [self.client.program("pg_restore"), "--use-list=(each stage)", *self._arguments(parallel=True)]
        missing = self._roles_to_import()
        notices = [f"Roles that must be imported first: {', '.join(missing)}."] if missing else []
        return {
            "command": [*command, f"--dbname={self.target.conninfo(dbname)}"],
            "planned_stages": names,
            "skipped": self.fitting.skipped,
            "edits": self.fitting.edits,
            "notices": notices,
        }

    def _roles_to_import(self) -> list[str]:
        """Roles that the target does not have, and that something cannot be made without."""
        spared = self.params["no_owner"] and self.params["no_privileges"]
        needed = self.origin["roles_named" if spared else "roles_referenced"]
        return sorted(set(needed) - self.capabilities.roles - self.missing_roles)

    def _fit_missing_roles(self) -> set[str]:
        """Roles that are not carried over: their objects go to the connecting role, their grants are taken out."""
        left = {self.origin["bootstrap_role"], *self.params["skip_roles"]}
        left |= {name for name in self.origin["roles_referenced"] if role_import.RESERVED.fullmatch(name)}
        missing = left - self.capabilities.roles
        for name in sorted(missing):
            self.fitting.forget(name, "the target does not have this role")
        return missing

    # The work

    def fill(self, dbname: str) -> dict:
        """Everything, in order; what is returned is also the journal's record. Raises HandoverError."""
        roles = self._roles_to_import()
        if roles:
            raise HandoverError(
                f"The target lacks roles that own objects, have privileges, or are named in policies or user mappings: "
                f"{', '.join(roles)}.",
                "Import the roles first. With no_owner: true and no_privileges: true, the named ones are enough.",
            )
        with contextlib.closing(self.target.connect(dbname)) as session, contextlib.ExitStack() as stack:
            import_journal.begin(session, self.origin["dump_id"])
            self._begun(session)
            self._take_ownership(stack)
            self._restore(session, dbname, stack)
            self._analyze(dbname, "tables")
            with self.stages.stage("materialized views"):
                self._restore_settings(dbname)
                self._refresh(dbname)
            self._analyze(dbname, "materialized views")
            with self.stages.stage("database properties"):
                self._restore_properties(session, dbname)
            result = self._result()
            import_journal.complete(session, result)
        return result

    def _begun(self, session) -> None:
        """The journal of this run is there, and nothing else yet."""

    def _take_ownership(self, stack: contextlib.ExitStack) -> None:
        """Membership in the owners for the time of the import; objects of those that cannot be had go to us."""
        if self.capabilities.superuser:
            self.obtainable = set(self.capabilities.roles)
            return
        owners = self.fitting.grantors()
        if not self.params["no_owner"]:
            owners |= self.fitting.owners() | self._owners_elsewhere() | {self.origin["properties"]["owner"]}
        there = sorted(owners & self.capabilities.roles)
        memberships = stack.enter_context(temporary_memberships(self.connection, there))
        for refused in memberships.refused:
            self.fitting.leave_to_us(refused["role"], refused["reason"])
        self.obtainable = taken = set(there) - {refused["role"] for refused in memberships.refused}
        self.fitting.edit("grantor", "SET ROLE for SET SESSION AUTHORIZATION", lambda one: with_set_role(one, taken))

    def _owners_elsewhere(self) -> set[str]:
        """Roles to which objects belong that the archive does not list."""
        return set()

    def _stages(self) -> list[staging.Stage]:
        return staging.plan_stages(self.fitting.contents, self.fitting.remaining())

    def _arguments(self, parallel: bool) -> list[str]:
        arguments = ["--no-tablespaces"] if self.params["no_tablespaces"] else []
        arguments += ["--no-owner"] if self.params["no_owner"] else []
        arguments += [f"--jobs={self.jobs}"] if parallel and self.jobs > 1 else []
        return arguments + list(self.params["extra_args"])

    def _restore(self, session, dbname: str, stack: contextlib.ExitStack) -> None:
        """Stage by stage, so that an object that is refused is known before any row is loaded."""
        self.place = archive.edited(self.fitting.contents, stack)
        self.programs = self.target.for_programs(session)
        import_journal.undo(session)  # of a run that was killed: what it did for a while does not look so any more
        stack.callback(_try_to_undo, session)
        for stage in self._stages():
            if stage.name == "definitions" and not self.capabilities.superuser:
                self._open(session)
            if stage.name == "privileges":
                import_journal.undo(session)
            with self.stages.stage(stage.name):
                self._run(stage, dbname)
        import_journal.undo(session)
        self._open_public_schema(session)

    def _run(self, stage: staging.Stage, dbname: str) -> None:
        """One stage, its entries in their order."""
        self._explain(stage, self._restore_quickly(stage, dbname))

    def _restore_quickly(self, stage: staging.Stage, dbname: str) -> list[archive.RestoreError]:
        """Many entries at a time; those among which the server refuses one, one by one, to know which it is."""
        if self.params.get("extra_args"):  # who knows what they do
            return self._restore_slowly(stage.entries, dbname, self.place, stage.parallel)
        errors = []
        with contextlib.closing(self.target.connect(dbname)) as session:
            script.prepare(session, self.fitting.contents)
            place = script.Place(self.place, self.fitting.contents.codec)
            waiting = stage.entries
            while waiting := self._wanted(waiting):
                entries = waiting[: script.WRITTEN_TOGETHER]
                arguments = self._arguments(parallel=False)
                done = script.run(session, self.client, self.programs, place, entries, arguments)
                refused = entries[done : done + script.TOGETHER]
                if refused:
                    errors += self._restore_slowly(refused, dbname, self.place, False)
                    self.fitting.explain(errors)  # what needs a refused one is not tried any more
                waiting = waiting[done + len(refused) :]
        return errors

    def _restore_slowly(self, entries: list, dbname: str, place: str, parallel: bool) -> list[archive.RestoreError]:
        arguments = self._arguments(parallel)
        return archive.restore(self.client, self.programs, dbname, place, self._wanted(entries), arguments)

    def _wanted(self, entries: list) -> list:
        return [entry for entry in entries if not self.fitting.is_skipped(entry)]

    def _explain(self, stage: staging.Stage, errors: list[archive.RestoreError]) -> None:
        """Raise HandoverError unless these are refusals that lose no rows."""
        unknown = self.fitting.explain(errors)
        if unknown:
            raise HandoverError(
                f"pg_restore met {len(unknown)} errors in stage {stage.name}; the first: {unknown[0].describe()}.",
                "Mend the cause on the source or the target and run this again; it starts over.",
                errors=[error.describe() for error in unknown[:50]],
            )
        self.fitting.require_rows()

    def _open(self, session) -> None:
        """Let owners have CREATE while objects are given to them: for a role that is not a superuser, ALTER ... OWNER
        demands it of the new owner, and the privileges of the archive come last. Nobody else is in the database yet.
        """
        query = """
            SELECT 'SCHEMA', nspname::text FROM pg_namespace WHERE NOT has_schema_privilege('public', oid, 'CREATE')
            AND nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'handover')
            UNION ALL SELECT 'DATABASE', current_database()::text
            WHERE NOT has_database_privilege('public', current_database(), 'CREATE')"""
        closed = [sql.SQL(kind + " {}").format(sql.Identifier(name)) for kind, name in rows(session, query)]
        revocations = [sql.SQL("REVOKE CREATE ON {} FROM PUBLIC").format(thing) for thing in closed]
        import_journal.record_undo(session, [revocation.as_string(session) for revocation in revocations])
        for thing in closed:
            _try(session, sql.SQL("GRANT CREATE ON {} TO PUBLIC").format(thing))

    def _open_public_schema(self, session) -> None:
        """Before 15 everybody may create in schema public; an application may count on it."""
        acl = self.origin["properties"]["public_schema_acl"] or []
        if not any(grant["grantee"] is None and grant["privilege"] == "CREATE" for grant in acl):
            return
        if (
            self.params["no_privileges"]
            or rows(session, "SELECT has_schema_privilege('public', 'public', 'CREATE')")[0][0]
        ):
            return
        refused = _try(session, sql.SQL("GRANT CREATE ON SCHEMA public TO PUBLIC"))
        if refused:
            self.fitting.note("CREATE on SCHEMA public for PUBLIC", "ACL", refused)

    def _analyze(self, dbname: str, kind: str) -> None:
        mode = self.params["analyze"]
        if mode != "none":
            with self.stages.stage("analyze"):
                lacking = self._only_lacking(mode)
                statistics.analyze(lambda: self.target.connect(dbname), self.jobs, kind, mode == "in_stages", lacking)

    def _only_lacking(self, mode: str) -> bool:
        """Whether what has statistics by now is not to be analyzed again."""
        return mode == "auto" and self._has_statistics()

    def _has_statistics(self) -> bool:
        return any(entry.desc in STATISTICS for entry in self.fitting.remaining())

    def _refresh(self, dbname: str) -> None:
        """Under the database's own settings: the contents of a view may depend on its time zone."""
        if self.params["refresh_materialized_views"]:
            with contextlib.closing(self.target.connect(dbname, pinned=False)) as session:
                statistics.refresh(session, staging.refreshes(self.fitting.remaining()))

    def _restore_settings(self, dbname: str) -> None:
        """Settings of the database, and of roles in it; what is refused is listed."""
        data = self.origin["database_settings"]
        plan = role_import.plan_database_settings(
            self.connection, data, self.origin["source"]["database"], role_import.Options(), dbname
        )
        for one in role_import.apply(self.connection, plan)["left_out"]:
            setting = f"setting {one['detail']}" + (f" of role {one['role']}" if one["role"] else "")
            self.fitting.note(setting, "DATABASE PROPERTIES", one["reason"])

    def _restore_properties(self, session, dbname: str) -> None:
        """Owner, comment and limit of a database of our making, and its privileges; what is refused is listed."""
        properties, created = self.origin["properties"], self.params["create"]
        statements = databases.property_statements(dbname, properties) if created else []
        has_owner = created and not self.params["no_owner"] and properties["owner"] not in self.missing_roles
        more, skipped = databases.ownership_statements(
            dbname, properties, self.missing_roles, has_owner, not self.params["no_privileges"]
        )
        self.fitting.skipped += skipped
        statements += more
        for statement in statements:
            refused = _try(session, statement)
            if refused:
                text = statement.as_string(session).replace(dbname, self.origin["source"]["database"])
                self.fitting.note(text, "DATABASE PROPERTIES", refused)

    def _result(self) -> dict:
        counts = self.compared
        return {
            "dump_id": self.origin["dump_id"],
            "client": self.client.version,
            "restored": dict(sorted(Counter(entry.desc for entry in self.fitting.remaining()).items())),
            "skipped": self.fitting.skipped,
            "edits": self.fitting.edits,
            "rows_compared": sum(count["rows"] for count in counts) if counts is not None else None,
            "tables_compared": len(counts) if counts is not None else None,
            "stages": self.stages.as_result(),
        }


def _try(session, statement) -> str:
    """Empty if the server did it, else its reason."""
    try:
        execute(session, statement)
    except psycopg2.Error as error:
        return " ".join(str(error).split())
    return ""


def _try_to_undo(session) -> None:
    with contextlib.suppress(psycopg2.Error):  # the error that brought us here says more; the next run tries again
        import_journal.undo(session)
