# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An endpoint: how one of the two servers is reached, by our own sessions and by child programs."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base import pooling, signals
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.secrets import masked
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line, sentence

try:
    import psycopg2
    import psycopg2.extensions
    import psycopg2.extras
    from psycopg2 import sql  # pylint: disable=unused-import

    PSYCOPG2_IMPORT_ERROR = ""
    Connection = psycopg2.extensions.connection
    Cursor = psycopg2.extensions.cursor

    class Session(Connection):
        """A connection that may keep statements until the next one is said, and then says them together with it."""

        kept = b""

        def cursor(self, *args: Any, **more: Any) -> Cursor:  # type: ignore[override]
            return super().cursor(*args, **{"cursor_factory": SessionCursor, **more})

    class SessionCursor(Cursor):
        """Its cursor."""

        connection: Session

        def execute(self, query: Any, *parameters: Any) -> None:
            kept, self.connection.kept = self.connection.kept, b""
            if not kept:
                super().execute(query, *parameters)
            elif self.name:
                self.connection.cursor().execute(kept)
                super().execute(query, *parameters)
            else:
                super().execute(kept + self.mogrify(query, *parameters))

        def copy_expert(self, query: Any, *files: Any) -> None:
            kept, self.connection.kept = self.connection.kept, b""
            super().copy_expert(kept + self.mogrify(query) if kept else query, *files)

except ImportError:
    # The frame says so before anything is asked of them.
    psycopg2 = sql = Connection = Cursor = Session = None  # type: ignore[assignment,misc]
    PSYCOPG2_IMPORT_ERROR = traceback.format_exc()

APPLICATION_NAME = "handover"

# Keepalives hold an idle snapshot connection open through a NAT gateway.
CONNECTION_DEFAULTS = {
    "connect_timeout": "15",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "6",
}

# Whatever a role's or a database's settings say, a session of ours is neither cut short nor shown a part of the rows.
SESSION_SETTINGS = {
    "row_security": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "client_min_messages": "warning",
}
SESSION_SETTINGS_SINCE = {140000: {"idle_session_timeout": "0"}, 170000: {"transaction_timeout": "0"}}

# What pg_dump quotes, and we run, is to mean the same.
CONFORMING = "-c standard_conforming_strings=on"

# Event triggers of the application act on its own commands, not on ours: they may forbid them, or write rows of their
# own where these are to arrive from elsewhere. From 17 on there is a setting for that; before, those that are enabled
# as usual do not fire in sessions that replicate. None of it is switched off for anybody else.
EVENT_TRIGGERS_OFF = {170000: ("event_triggers", "off"), 0: ("session_replication_role", "replica")}
HAS_EVENT_TRIGGERS = """
    EXISTS (SELECT FROM pg_catalog.pg_event_trigger AS e WHERE evtenabled <> 'D' AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_depend AS d WHERE d.classid = 'pg_catalog.pg_event_trigger'::regclass
                AND d.objid = e.oid AND d.deptype = 'e'))"""

# Pinned as well, so that values look the same everywhere and names mean what they say.
PINNED_SETTINGS = {
    "search_path": "",
    "quote_all_identifiers": "off",
    "jit": "off",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "array_nulls": "on",
    "xmloption": "content",
}


@dataclass(frozen=True)
class Endpoint:
    """One server, by libpq's connection parameters.

    ``side`` is ``source`` or ``target``, the option by which the user knows it;
    ``parameters`` are libpq's (PostgreSQL documentation, 34.1.2), ``uri`` already taken apart.
    """

    side: str
    parameters: dict[str, str]

    @classmethod
    def from_options(cls, side: str, options: dict[str, Any]) -> Endpoint:
        """From the module's option, the keys of which may be None. Raises HandoverError for what cannot be meant."""
        given = {name: str(value) for name, value in options.items() if value is not None and name != "uri"}
        parameters = {**_parse_uri(side, options.get("uri"), given), **given}
        _refuse_what_children_cannot_get(side, parameters)
        if "service" not in parameters and "sslmode" not in parameters and _is_remote(parameters):
            parameters["sslmode"] = "require"
        return cls(side, parameters)

    @property
    def secrets(self) -> list[str]:
        """What must not be shown anywhere."""
        return [self.parameters[name] for name in ("password", "sslpassword") if self.parameters.get(name)]

    @property
    def dbname(self) -> str | None:
        """The database that the user named, if any."""
        return self.parameters.get("dbname")

    def describe(self, dbname: str | None = None) -> str:
        """For messages: ``the source, db.example.com:5432, database "shop"``."""
        host = self.parameters.get("host") or self.parameters.get("hostaddr")
        if not host and "service" in self.parameters:
            host = f"service {self.parameters['service']}"
        place = f"{host or 'local socket'}:{self.parameters.get('port', '5432')}"
        database = dbname or self.dbname
        return f"the {self.side}, {place}" + (f', database "{database}"' if database else "")

    def connect(
        self, dbname: str | None = None, read_only: bool = False, pinned: bool = True, lock_timeout: int = 0
    ) -> Connection:
        """A psycopg2 connection in autocommit mode with our session settings; ``pinned=False`` leaves those that
        change what a query yields as the database has them; ``lock_timeout`` is in milliseconds, 0 is none.
        Raises HandoverError when the server cannot be reached, or only through a pooler that shares its sessions.
        """
        connection = self._open(dbname, pinned)
        settings = {**SESSION_SETTINGS, **(PINNED_SETTINGS if pinned else {})}
        settings["default_transaction_read_only"] = "on" if read_only else "off"
        settings["lock_timeout"] = str(lock_timeout)
        for since, more in SESSION_SETTINGS_SINCE.items():
            if connection.info.server_version >= since:
                settings.update(more)
        try:
            watched = _configure(connection, settings, connection.info.backend_pid)
            if watched is None:
                self._refuse_transaction_pooler(connection, dbname)
                watched = _configure(connection, settings)
            if watched and not read_only:
                pass_event_triggers(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def connect_for_replication(self, dbname: str) -> Connection:
        """A replication connection to a database (PostgreSQL documentation, 53.4). Raises HandoverError if refused."""
        factory = psycopg2.extras.LogicalReplicationConnection
        return self._open(dbname, connection_factory=factory)

    def _open(self, dbname: str | None, pinned: bool = True, **more: Any) -> Connection:
        """A session as the server gives it; ``pinned``, strings in it are what the standard says. That is asked for as
        it begins, since the client library quotes by what it is then, and only where needed, as poolers often refuse
        it.
        """
        parameters: dict[str, Any] = {
            **CONNECTION_DEFAULTS,
            **self.parameters,
            "application_name": APPLICATION_NAME,
        }
        parameters["client_encoding"] = "UTF8"
        more.setdefault("connection_factory", Session)
        if dbname is not None:
            parameters["dbname"] = dbname
        try:
            connection = psycopg2.connect(**parameters, **more)
            if pinned and connection.info.parameter_status("standard_conforming_strings") == "off":
                connection.close()
                parameters["options"] = f"{parameters.get('options', '')} {CONFORMING}".strip()
                connection = psycopg2.connect(**parameters, **more)
        except (psycopg2.Error, UnicodeError) as error:
            raise self._connection_error(error, dbname) from None
        signals.watch_over(connection)
        if isinstance(connection, Session):
            connection.autocommit = True  # a replication connection knows nothing else
        return connection

    def _refuse_transaction_pooler(self, connection: Connection, dbname: str | None) -> None:
        """Raise HandoverError where the pooler before us gives sessions away after each transaction.

        Settings of ours would stay in a session that the application gets next, and snapshots would be lost.
        """
        with contextlib.closing(self._open(dbname)) as other:
            if pooling.shares_sessions(connection, other):
                raise HandoverError(
                    f"A connection pooler in transaction mode stands between this machine and {self.describe(dbname)}.",
                    f"Give the server's own host and port as {self.side} (services list it as the direct connection), "
                    "or a pool in session mode.",
                )

    def connect_for_maintenance(self, read_only: bool = False) -> Connection:
        """A connection to some database of the server: the one that the user named, else a usual one.

        That a database is missing is known by the server's words alone: libpq gives no SQLSTATE of a connection that
        failed. A server that says it in another language has its first error shown, and ``dbname`` is the remedy.
        """
        errors: list[HandoverError] = []
        for dbname in filter(None, (self.dbname, "postgres", "defaultdb", "template1")):
            try:
                return self.connect(dbname, read_only)
            except HandoverError as found:
                if "does not exist" not in found.said or "database" not in found.said.rsplit(":", 1)[-1]:
                    raise
                errors.append(found)
        raise errors[0]

    def conninfo(self, dbname: str) -> str:
        """A connection string without secrets, for the arguments of child programs; any database name is quoted."""
        parameters = {**CONNECTION_DEFAULTS, **self.parameters, "application_name": APPLICATION_NAME}
        for secret in ("password", "sslpassword"):
            parameters.pop(secret, None)
        if "sslpassword" in self.parameters:
            parameters["service"] = "handover"
        if "password" in self.parameters:
            parameters.pop("passfile", None)  # it would win over ours
        parameters["dbname"] = dbname
        return psycopg2.extensions.make_dsn(**parameters)

    def for_programs(self, connection: Connection) -> Endpoint:
        """The same, with what a role's or a database's settings would do to a child program's sessions put right.

        Poolers often refuse the startup parameter that it takes, so it is there only if needed. ``connection`` is to
        the same database, and event triggers that it passes they pass, too. pg_dump and pg_restore themselves put the
        other timeouts right.
        """
        query = """
            SELECT string_agg(format('-c %s=%s', name, wanted), ' ')
            FROM pg_catalog.pg_settings JOIN (VALUES ('default_transaction_read_only', 'off'),
                ('idle_session_timeout', '0'), ('transaction_timeout', '0'), ('array_nulls', 'on'),
                ('event_triggers', current_setting('event_triggers', true)),
                ('session_replication_role', current_setting('session_replication_role'))) AS w (name, wanted)
            USING (name) WHERE reset_val <> wanted"""
        with connection.cursor() as cursor:
            cursor.execute(query)
            ((needed,),) = cursor.fetchall()
        if CONFORMING in (connection.info.dsn_parameters.get("options") or ""):
            needed = f"{needed or ''} {CONFORMING}".strip()
        return self.with_options(needed) if needed else self

    def with_options(self, options: str) -> Endpoint:
        """The same, with more of libpq's ``options``, which set what sessions begin with."""
        given = self.parameters.get("options", "")
        return replace(self, parameters={**self.parameters, "options": f"{given} {options}".strip()})

    @contextlib.contextmanager
    def child_environment(self) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
        """Yields (environment, file descriptors to pass) with which a child program finds the secrets."""
        environment = {**os.environ, "LC_ALL": "C"}
        environment.pop("PGTZ", None)  # on the target, expressions are evaluated as for the application
        if self.side == "source":
            environment["PGTZ"] = "UTC"
        with contextlib.ExitStack() as stack:
            descriptors: list[int] = []
            if "password" in self.parameters:
                escaped = self.parameters["password"].replace("\\", "\\\\").replace(":", "\\:")
                environment["PGPASSFILE"], descriptor = stack.enter_context(_private_file(f"*:*:*:*:{escaped}\n"))
                descriptors += descriptor
                environment.pop("PGPASSWORD", None)  # it would win over the pass file
            if "sslpassword" in self.parameters:
                content = f"[handover]\nsslpassword={self.parameters['sslpassword']}\n"
                environment["PGSERVICEFILE"], descriptor = stack.enter_context(_private_file(content))
                descriptors += descriptor
            yield environment, tuple(descriptors)

    def _connection_error(self, error: Exception, dbname: str | None) -> HandoverError:
        text = one_line(error)
        remedy = next(
            (remedy for sign, remedy in CONNECTION_REMEDIES if sign in text),
            "Check {side}.host, {side}.port, and that a firewall lets this machine through.",
        )
        failure = HandoverError(
            sentence(f"Cannot connect to {self.describe(dbname)}: {masked(text, self.secrets)}"),
            remedy.format(side=self.side),
            unreachable_side=self.side,
        )
        failure.said = text
        return failure


TURNED_AWAY = "Allow this machine in the server's pg_hba.conf, or in the service's list of trusted sources"
CONNECTION_REMEDIES = (
    ("password authentication failed", "Check {side}.user and {side}.password."),
    ("no password supplied", "Set {side}.password, or {side}.passfile."),
    (
        "server does not support SSL",
        "Turn TLS on at that server, or set {side}.sslmode: disable if you trust the network.",
    ),
    (
        "certificate verify failed",
        "Check {side}.sslrootcert: it must hold the authority that signed the server's certificate.",
    ),
    ("does not match host name", "Use the name in the certificate as {side}.host, or {side}.sslmode: verify-ca."),
    ("root certificate file", "Set {side}.sslrootcert to the file of the certificate authority."),
    ("client certificate", "Set {side}.sslcert and {side}.sslkey to the files of the role's certificate and key."),
    ("private key file", "Check {side}.sslkey and {side}.sslpassword."),
    ("definition of service", "Check {side}.service, and PGSERVICEFILE where the module runs."),
    ("permission denied for database", "Grant CONNECT on that database to {side}.user."),
    ("does not exist", "Check {side}.dbname and {side}.user."),
    ("could not translate host name", "Check {side}.host."),
    ("unsupported startup parameter", "Connect to the server itself, not through a connection pooler."),
    ("remaining connection slots", "Close some sessions on that server, or raise max_connections."),
    ("too many connections", "Close some sessions on that server, or raise the limit."),
    ("no encryption", TURNED_AWAY + "; if it is there for TLS only, set {side}.sslmode: require."),
    ("SSL off", TURNED_AWAY + "; if it is there for TLS only, set {side}.sslmode: require."),
    ("no pg_hba.conf entry", TURNED_AWAY + "."),
)


def _refuse_what_children_cannot_get(side: str, parameters: dict[str, Any]) -> None:
    password = parameters.get("password", "")
    if "\n" in password or password.endswith("\r"):
        raise HandoverError(
            f"{side}.password contains a line break, which libpq's pass files cannot hold.",
            "Remove it, or give the role another password for the migration.",
        )
    if "service" in parameters and "sslpassword" in parameters:
        raise HandoverError(
            f"{side}.sslpassword and {side}.service cannot go together.",
            "Put sslpassword into the service file, or set here what the service file sets.",
        )


def keep(connection: Connection, statement: str | bytes) -> None:
    """Say this before the next statement, in one message. Nobody wants its answer; an error is the next one's."""
    if isinstance(connection, Session):
        connection.kept += (statement.encode() if isinstance(statement, str) else statement) + b"; "
    else:
        with connection.cursor() as cursor:
            cursor.execute(statement)


def take_kept(connection: Connection) -> bytes:
    """What is to be said before the next statement, for somebody who says that without the client library."""
    if not isinstance(connection, Session):
        return b""
    kept, connection.kept = connection.kept, b""
    return kept


def pass_event_triggers(connection: Connection) -> None:
    """Keep the application's event triggers out of this session, if there are any, that is to be had, and it does not
    wake others. Sessions that were there before them are told again.
    """
    name, value = next(pair for since, pair in EVENT_TRIGGERS_OFF.items() if connection.info.server_version >= since)
    statement = f"""
        SELECT pg_catalog.set_config(%s, %s, false) WHERE {HAS_EVENT_TRIGGERS} AND (%s = 'event_triggers'
        OR NOT EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtenabled = 'R'))"""
    with contextlib.suppress(psycopg2.Error), connection.cursor() as cursor:
        cursor.execute(statement, (name, value, name))


def _configure(connection: Connection, settings: dict[str, Any], process: int | None = None) -> bool | None:
    """Make the settings, only if the session is served by this server process if one is given: whether event triggers
    would act on what it does, None where they were not made.
    """
    query = (
        f"SELECT pg_catalog.set_config(name, value, false), {HAS_EVENT_TRIGGERS}"
        " FROM ROWS FROM (pg_catalog.unnest(%s), pg_catalog.unnest(%s)) AS s (name, value)"
        " WHERE pg_catalog.pg_backend_pid() = coalesce(%s, pg_catalog.pg_backend_pid())"
    )
    with connection.cursor() as cursor:
        cursor.execute(query, (list(settings), list(settings.values()), process))
        made = cursor.fetchall()
        return made[0][1] if made else None


def _parse_uri(side: str, uri: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """The parameters in a connection URI. libpq's own complaint is not repeated: it may quote the password."""
    if uri is None:
        return {}
    remedy = (
        "Write it as postgresql://user:password@host:port/dbname?sslmode=require, special characters percent-encoded."
    )
    if not uri.startswith(("postgresql://", "postgres://")):
        raise HandoverError(f"{side}.uri does not begin with postgresql://.", remedy)
    login = uri.partition("://")[2].partition("?")[0].rpartition("@")[0]
    if set(login) & set("@/"):  # libpq would take a part of the password for a host, and show it
        raise HandoverError(f"{side}.uri has an unencoded @ or / in it.", remedy)
    try:
        parameters = psycopg2.extensions.parse_dsn(uri)
    except psycopg2.ProgrammingError:
        raise HandoverError(f"{side}.uri is not a connection URI that libpq understands.", remedy) from None
    twice = sorted(set(parameters) & set(given))
    if twice:
        raise HandoverError(f"{side}.uri and {side}.{twice[0]} set the same thing twice.", f"Remove {side}.{twice[0]}.")
    return parameters


def _is_remote(parameters: dict[str, Any]) -> bool:
    """Whether any host is reached over TCP beyond loopback."""
    hosts = (parameters.get("hostaddr") or parameters.get("host") or os.environ.get("PGHOST") or "").split(",")
    return any(not is_loopback(host) for host in hosts)


def is_loopback(host: str) -> bool:
    """Whether a host, as libpq takes it, is this machine: a socket's directory, localhost, a loopback address."""
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def _private_file(content: str) -> Iterator[tuple[str, list[int]]]:
    """Yields (path, descriptors to pass); in memory where Linux offers it, so that SIGKILL leaves nothing behind."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        descriptor = os.memfd_create("handover")
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, content.encode())
            yield f"/proc/self/fd/{descriptor}", [descriptor]
        finally:
            os.close(descriptor)
        return
    descriptor, path = tempfile.mkstemp(prefix="handover-")
    try:
        os.write(descriptor, content.encode())
        os.close(descriptor)
        yield path, []
    finally:
        os.unlink(path)
