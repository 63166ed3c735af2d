# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles fitted to a target: what it lacks is added as far as the connecting role may, nothing is dropped or weakened.

``plan`` tries every statement on the target in a transaction that is rolled back; ``apply`` runs those that the
server accepted, in one transaction. A plan made right after is therefore empty.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import (
    Statement,
    Trial,
    execute_all,
    transaction,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.passwords import (
    belongs_to,
    hash_kind,
    scram_verifier,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.role_data import (
    ATTRIBUTES,
    MASK,
    bootstrap_name,
    comment_on_role,
    database_settings,
    grant_membership,
    in_grant_order,
    parameter_elements,
    read_password_hashes,
    read_roles,
    role_limits,
    set_parameter,
)

# Roles that providers make for themselves, and ours (ownership.py).
RESERVED = re.compile(
    r"rds(_.*|admin|repladmin|topmgr|writeforwarduser|proxyadmin)|cloudsql.*|alloydb.*|azure_.*|azuresu|_aiven.*|_dodb.*"
    r"|avnadmin|doadmin|akmadmin|linpostgres|supabase_.*|neon_superuser|cloud_admin|crunchy_superuser|ibm|ibm-cloud-.*"
    r"|handover_owners_.*"
)
# Given one by one after CREATE ROLE, because a role that is not a superuser may give only some of them.
PRIVILEGES = ("superuser", "createrole", "createdb", "replication", "bypassrls")
MD5_NOTE = "The password is an MD5 hash: login fails where pg_hba.conf asks for scram-sha-256, and 18 warns about it."


@dataclass(frozen=True)
class RoleOptions:
    """What the operator decides.

    ``password_hashes``: the source's, ``{role: hash or None}``. ``role_passwords``: ``{role: plaintext}``, wins.
    ``update_passwords``, for roles that the target has already: ``auto`` sets a password if the target's is readable
    and another one, ``always`` also if it cannot be read, ``on_create`` never. ``altered``: roles that were altered on
    the source since their passwords were set, if that is known: ``auto`` sets these, if the target's cannot be read.
    """

    password_hashes: dict = field(default_factory=dict, repr=False)
    role_passwords: dict = field(default_factory=dict, repr=False)
    skip_roles: tuple = ()
    update_passwords: str = "auto"
    altered: frozenset | None = None


@dataclass
class Plan:
    """Statements that the target accepts, and what is not in them. Each list holds dictionaries with role and reason.

    ``left_out``: the target refused it, or cannot express it (with ``attribute``, and ``detail`` where there are many);
    ``kept``: the target's role can more than the source's; ``md5``: passwords that work only with md5 in pg_hba.conf.
    ``changes`` says what the statements are about: role, attribute and, where there are many, detail.
    """

    statements: list[Statement] = field(default_factory=list, repr=False)
    changes: list[dict] = field(default_factory=list)
    skipped: list[dict] = field(default_factory=list)
    left_out: list[dict] = field(default_factory=list)
    kept: list[dict] = field(default_factory=list)
    without_password: list[dict] = field(default_factory=list)
    password_unknown: list[dict] = field(default_factory=list)
    md5: list[dict] = field(default_factory=list)

    def as_result(self) -> dict:
        """JSON types; ``statements`` as people may see them."""
        lists = {name: getattr(self, name) for name in asdict(Plan()) if name != "statements"}
        return {"changed": bool(self.statements), "statements": [one.shown for one in self.statements], **lists}


def plan(conn, data: dict, options: RoleOptions) -> Plan:
    """What brings the target's roles to ``data`` (roles.read_roles of the source). Changes nothing."""
    target = read_roles(conn)
    with transaction(conn, "ROLLBACK") as cursor:
        fitting = RoleFitting(conn, data, target, options, Trial(cursor))
        for role in data["roles"]:
            fitting.fit_role(role)
        for row in in_grant_order(data):
            fitting.fit_membership(row)
        for setting in data["settings"]:
            if setting["database"] is None:
                fitting.fit_setting(setting)
        fitting.find_kept(data)
    return fitting.plan


def plan_database_settings(
    conn, data: dict, dbname: str, options: RoleOptions, target_dbname: str | None = None
) -> Plan:
    """The same for the settings that hold in one database, which exists on the target, perhaps under another name."""
    target = read_roles(conn)
    with transaction(conn, "ROLLBACK") as cursor:
        fitting = RoleFitting(conn, data, target, options, Trial(cursor))
        for setting in database_settings(data, dbname):
            fitting.fit_setting({**setting, "database": target_dbname or dbname})
    return fitting.plan


def apply(conn, planned: Plan) -> dict:
    """Runs the plan, all of it or nothing, and gives its result. Raises HandoverError."""
    execute_all(conn, planned.statements)
    return planned.as_result()


class RoleFitting:
    """One source's roles being tried on one target."""

    def __init__(self, conn, data: dict, target: dict, options: RoleOptions, attempts: Trial):
        self.conn = conn
        self.options = options
        self.attempts = attempts
        self.plan = Plan(statements=attempts.accepted)
        self.source = {role["name"]: role for role in data["roles"]}
        self.target = {role["name"]: role for role in target["roles"]}
        self.target_hashes = read_password_hashes(conn)
        self.target_version = target["version"]
        self.target_memberships = list(target["memberships"])
        self.target_settings = {_setting_key(row): row["value"] for row in target["settings"]}
        self.by_superuser = (None, bootstrap_name(data))
        self.bootstrap = bootstrap_name(target)
        with conn.cursor() as cursor:
            cursor.execute("SELECT current_user")
            self.me = cursor.fetchone()[0]
        self.absent: set[str] = set()

    def skip_reason(self, name: str) -> str:
        """Why a role of the source is left alone; empty if it is not."""
        if self.source.get(name, {}).get("bootstrap"):
            return "It is the source's bootstrap superuser."
        if self.target.get(name, {}).get("bootstrap"):
            return "It is the target's bootstrap superuser."
        if name == self.me:
            return "It is the connecting role of the target."
        if name in self.options.skip_roles:
            return "skip_roles names it."
        if RESERVED.fullmatch(name):
            return "Its name is reserved for a provider's own roles."
        return ""

    # Roles

    def fit_role(self, role: dict) -> None:
        """Creates or converges one role, without memberships and settings."""
        name = role["name"]
        skipped = self.skip_reason(name)
        if skipped:
            self.plan.skipped.append({"role": name, "reason": skipped, "exists": name in self.target})
            return
        there = self.target.get(name)
        if there is None:
            refused = self.attempts.attempt(_create(role))
            if refused:
                self.absent.add(name)
                self._leave_out(name, "role", refused)
                return
            self._change(name, "role")
            there = {**role, **dict.fromkeys(PRIVILEGES, False), "comment": None}
        self._fit_attributes(role, there)
        self._fit_limits(role, there)
        if role["comment"] is not None and role["comment"] != there["comment"]:
            self._attempt(comment_on_role(name, role["comment"]), name, "comment")
        self._fit_password(role, created=name not in self.target)

    def _fit_attributes(self, role: dict, there: dict) -> None:
        for attribute in ATTRIBUTES:
            if role[attribute] and not there[attribute]:
                self._attempt(_alter(role["name"], sql.SQL(attribute.upper())), role["name"], attribute)
            elif there[attribute] and not role[attribute]:
                reason = f"The target's role has {attribute.upper()}, the source's does not; it was not taken away."
                self._keep(role["name"], attribute, reason)

    def _fit_limits(self, role: dict, there: dict) -> None:
        if role["connection_limit"] != there["connection_limit"]:
            limit = sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(role["connection_limit"]))
            self._attempt(_alter(role["name"], limit), role["name"], "connection_limit")
        until = role["valid_until"] or "infinity"
        if until != (there["valid_until"] or "infinity"):
            limit = sql.SQL("VALID UNTIL {}").format(sql.Literal(until))
            self._attempt(_alter(role["name"], limit), role["name"], "valid_until")

    # Passwords

    def _fit_password(self, role: dict, created: bool) -> None:
        name = role["name"]
        plaintext, stored = self.options.role_passwords.get(name), self.options.password_hashes.get(name)
        if plaintext is None and stored is not None and hash_kind(stored) == "md5":
            self.plan.md5.append({"role": name, "reason": MD5_NOTE})
        missing = ""
        if plaintext is None and stored is None:
            missing = {
                "none": "The source's role has no password either.",
                "hash": "Its hash was not exported.",
                "unreadable": "The connecting role may not read its hash on the source.",
            }[role["password"]["state"]]
        elif self._password_is_due(name, plaintext, stored, created):
            missing = self._set_password(name, stored if plaintext is None else plaintext, plaintext is not None)
        elif self.options.update_passwords == "on_create":
            missing = "update_passwords is on_create."
        elif self.options.altered is None:
            missing = "The connecting role may not read its hash on the target, so it was neither compared nor set."
        login = role["login"] or self.target.get(name, {}).get("login")
        if missing and login:
            self._report_password(name, created, missing)

    def _password_is_due(self, name: str, plaintext: str | None, stored: str | None, created: bool) -> bool:
        """Whether the wanted password is to be set."""
        if created or (self.options.update_passwords == "always" and self.target_hashes is None):
            return True
        if self.options.update_passwords == "on_create":
            return False
        if self.target_hashes is None:
            return name in (self.options.altered or ())
        there = self.target_hashes.get(name) or ""
        return not (there == stored if plaintext is None else belongs_to(there, plaintext))

    def _set_password(self, name: str, secret: str, is_plaintext: bool) -> str:
        """The server's reason if it refused the hash. The plaintext itself is never sent."""
        stored = scram_verifier(self.conn, name, secret) if is_plaintext else secret
        password = sql.SQL("PASSWORD {}")
        return self._attempt(
            _alter(name, password.format(sql.Literal(stored))),
            name,
            "password",
            shown=_alter(name, password.format(MASK)),
            hooked=True,
        )

    def _report_password(self, name: str, created: bool, reason: str) -> None:
        """Lists a role as without a password, if it is; one whose hash cannot be seen is listed as unknown."""
        if created or (self.target_hashes is not None and self.target_hashes.get(name) is None):
            self.plan.without_password.append({"role": name, "reason": reason})
        elif self.target_hashes is None:
            self.plan.password_unknown.append({"role": name, "reason": reason})

    # Memberships

    def fit_membership(self, row: dict) -> None:
        """Adds one membership, with its options as far as the target's major knows them."""
        role, member = row["role"], row["member"]
        if self.skip_reason(member) or {role, member} & self.absent:
            return  # listed as a role
        skipped = self.skip_reason(role)
        if skipped:
            self._leave_out(member, "membership", skipped, role)
        elif self.target_version >= 160000:
            self._fit_with_options(row)
        else:
            self._fit_without_options(row)

    def _fit_with_options(self, row: dict) -> None:
        """16+: a membership has options, and one row for each grantor."""
        inherits = self.source.get(row["member"], {"inherit": True})["inherit"]
        wanted = {
            **row,
            "inherit": inherits if row["inherit"] is None else row["inherit"],
            "set": True if row["set"] is None else row["set"],
        }
        there = self._memberships_of(row)
        if row["set"] is not None and self.target.get(self.me, {}).get("superuser"):
            grantor = self.bootstrap if row["grantor"] in self.by_superuser else row["grantor"]
            by_grantor = [one for one in there if one["grantor"] == grantor]
            clause = None if grantor == self.bootstrap else grantor
            if _covers(by_grantor, wanted) or not self._grant(wanted, by_grantor, grantor, clause):
                return
        if not _covers(there, wanted):
            refused = self._grant(wanted, there, self.me, None)
            if refused:
                self._leave_out(row["member"], "membership", refused, row["role"])

    def _fit_without_options(self, row: dict) -> None:
        """Before 16: a membership may do everything, and inherits as the member does."""
        inherits = self.source.get(row["member"], {"inherit": True})["inherit"]
        if row["set"] is False or (row["inherit"] is False and inherits):
            reason = "The target's major has no SET FALSE and no INHERIT FALSE; granting it would give more."
            self._leave_out(row["member"], "membership", reason, row["role"])
            return
        if row["inherit"] and not inherits:
            reason = "The target's major has no INHERIT TRUE for a member that is NOINHERIT; granted without."
            self._leave_out(row["member"], "membership_inherit", reason, row["role"])
        there = self._memberships_of(row)
        wanted = {**row, "inherit": None, "set": None}
        if not there or (row["admin"] and not any(one["admin"] for one in there)):
            refused = self._grant(wanted, [], self.me, None)
            if refused:
                self._leave_out(row["member"], "membership", refused, row["role"])

    def _memberships_of(self, row: dict) -> list[dict]:
        pair = (row["role"], row["member"])
        return [one for one in self.target_memberships if (one["role"], one["member"]) == pair]

    def _grant(self, wanted: dict, there: list[dict], grantor: str | None, clause: str | None) -> str:
        """Grants without taking options from what is there. The reason if it was refused."""
        row = {**wanted, "grantor": grantor}
        for option in ("admin", "inherit", "set"):
            if wanted[option] is not None:
                row[option] = wanted[option] or any(one[option] for one in there)
        refused = self.attempts.attempt(grant_membership(row, clause))
        if not refused:
            self.target_memberships.append(row)
            self._change(wanted["member"], "membership", wanted["role"])
        return refused

    # Settings

    def fit_setting(self, setting: dict) -> None:
        """Sets one parameter for a role, a database, or both."""
        role, name = setting["role"], setting["name"]
        if role is not None and (role in self.absent or self.skip_reason(role)):
            return  # listed as a role
        there = self.target_settings.get(_setting_key(setting))
        if there is None or parameter_elements(name, there) != parameter_elements(name, setting["value"]):
            shown = set_parameter(**setting, masked=True)
            self._attempt(set_parameter(**setting), role, "setting", detail=name, shown=shown)

    # What stays

    def find_kept(self, data: dict) -> None:
        """Memberships and settings that the target's roles have and the source's do not, as they were revoked there
        perhaps. Roles that the source does not know are the target's own business.
        """
        ours: dict[tuple[str, str], list[dict]] = {}
        for row in data["memberships"]:
            ours.setdefault((row["role"], row["member"]), []).append(row)
        theirs = {(row["role"], row["member"]) for row in self.target_memberships}
        for role, member in sorted(pair for pair in theirs if self._is_of_source(*pair)):
            if (role, member) not in ours:
                self._keep(member, "membership", "The source's role is no member; it was not revoked.", role)
            elif self._has_admin(self.target_memberships, role, member) and not self._has_admin(
                ours[role, member], role, member
            ):
                reason = "The source's role has no ADMIN OPTION; it was not revoked."
                self._keep(member, "membership_admin", reason, role)
        known = {_setting_key(setting) for setting in data["settings"]}
        for role, database, name in sorted(set(self.target_settings) - known, key=str):
            if role is not None and database is None and self._is_of_source(role):
                self._keep(role, "setting", "The source's role has no such setting; it was not reset.", name)

    def _is_of_source(self, *names: str) -> bool:
        return all(name in self.source and not self.skip_reason(name) for name in names)

    @staticmethod
    def _has_admin(memberships: list[dict], role: str, member: str) -> bool:
        return any(row["admin"] for row in memberships if (row["role"], row["member"]) == (role, member))

    def _keep(self, role: str, attribute: str, reason: str, detail: str | None = None) -> None:
        self.plan.kept.append(_entry(role, attribute, detail, reason=reason))

    def _attempt(self, statement, role, attribute, detail=None, shown=None, hooked=False) -> str:
        refused = self.attempts.attempt(statement, shown, hooked)
        if refused:
            self._leave_out(role, attribute, refused, detail)
        else:
            self._change(role, attribute, detail)
        return refused

    def _leave_out(self, role: str | None, attribute: str, reason: str, detail: str | None = None) -> None:
        self.plan.left_out.append(_entry(role, attribute, detail, reason=reason))

    def _change(self, role: str | None, attribute: str, detail: str | None = None) -> None:
        self.plan.changes.append(_entry(role, attribute, detail))


def _entry(role: str | None, attribute: str, detail: str | None, **more) -> dict:
    return {"role": role, "attribute": attribute, **more, **({"detail": detail} if detail is not None else {})}


def _create(role: dict) -> sql.Composable:
    """CREATE ROLE with what every role with CREATEROLE may give."""
    words: list[sql.Composable] = [
        sql.SQL("LOGIN" if role["login"] else "NOLOGIN"),
        sql.SQL("INHERIT" if role["inherit"] else "NOINHERIT"),
    ]
    words += role_limits(role)
    return sql.SQL("CREATE ROLE {} WITH {}").format(sql.Identifier(role["name"]), sql.SQL(" ").join(words))


def _alter(name: str, words: sql.Composable) -> sql.Composable:
    return sql.SQL("ALTER ROLE {} WITH {}").format(sql.Identifier(name), words)


def _covers(there: list[dict], wanted: dict) -> bool:
    """Whether memberships that exist give together what is wanted."""
    options = ("admin", "inherit", "set")
    return bool(there) and all(any(row[option] for row in there) for option in options if wanted[option])


def _setting_key(row: dict) -> tuple:
    return row["role"], row["database"], row["name"].lower()
