# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of sources on hosts share: a source, running the playbooks, and looking at what they did."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from typing import Any

from support import HERE, PlaybookResult, Running, start_playbook

from lab import builds
from lab.hosts import Host

PASSWORD = "of-the-target-and-nobody-else"
ENVIRONMENT = {"ANSIBLE_PIPELINING": "true", "ANSIBLE_REMOTE_TMP": "/tmp", "ANSIBLE_TIMEOUT": "60"}


# Hosts keep bytecode as playbooks do, and a new host has that of former ones.
BYTECODE = builds.state() / "bytecode-of-hosts"
ON_HOST = "/var/cache/handover-bytecode"
LIBRARY = "/usr/lib/python3/dist-packages"


def bring_bytecode(host: Host) -> None:
    """Have modules that Ansible sends to the host start sooner."""
    BYTECODE.mkdir(exist_ok=True)
    shutil.copytree(BYTECODE, host.path(ON_HOST))
    host.path(ON_HOST).chmod(0o1777)
    shutil.copyfile(HERE / "site" / "sitecustomize.py", host.path(f"{LIBRARY}/handover_bytecode.py"))
    line = f"import os; os.environ['HANDOVER_TEST_BYTECODE'] = '{ON_HOST}'; import handover_bytecode\n"
    host.path(f"{LIBRARY}/handover_bytecode.pth").write_text(line)


def keep_bytecode(host: Host) -> None:
    """Keep what has come up, for other hosts."""
    for path in host.path(ON_HOST).iterdir():
        if not (BYTECODE / path.name).exists():
            new = BYTECODE / f"{path.name}.{os.getpid()}"
            shutil.copyfile(path, new)
            new.rename(BYTECODE / path.name)


class Source:
    """A host whose PostgreSQL is to be migrated: as Debian installs it, but for a password, reached by a tunnel."""

    def __init__(self, host: Host, port: int = 5432) -> None:
        self.host = host
        self.password = secrets.token_urlsafe(18)
        self.major = host.run("ls", "/etc/postgresql").strip()
        self.role = f"handover_{host.name}"
        host.psql(f"ALTER ROLE postgres PASSWORD '{self.password}'", port=port)
        host.psql("CREATE DATABASE shop", port=port)
        self.port = host.tunnel(port)

    def endpoint(self) -> dict[str, Any]:
        """Its superuser, from the controller."""
        return {"host": "127.0.0.1", "port": self.port, "user": "postgres", "password": self.password}

    def variables(self) -> dict[str, Any]:
        """The variables of its pair."""
        return {"handover_source": self.endpoint(), "handover_source_host": f"host_of_{self.host.name}"}

    def files(self) -> dict[str, bytes]:
        """What the configuration files hold, and who may read them."""
        etc = self.host.path(f"/etc/postgresql/{self.major}/main")
        auto = self.host.path(f"/var/lib/postgresql/{self.major}/main/postgresql.auto.conf")
        found = {str(path.relative_to(etc)): path for path in sorted(etc.rglob("*")) if path.is_file()}
        contents = {name: path.read_bytes() for name, path in {**found, auto.name: auto}.items()}
        modes = {name: (path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for name, path in found.items()}
        return {**contents, "modes": repr(modes).encode()}

    def state(self) -> set[str]:
        """What SQL says of what the playbook could change: settings and roles."""
        settings = "SELECT name || ' = ' || setting FROM pg_settings WHERE context = 'postmaster'"
        return {*self.host.psql(f"{settings} UNION SELECT rolname FROM pg_roles").splitlines()}

    def setting(self, name: str) -> str:
        return self.host.psql(f"SHOW {name}")

    def started(self, port: int = 5432) -> str:
        """When the server was started."""
        return self.host.psql("SELECT pg_postmaster_start_time()", port=port)


def edit(source: Source, name: str, change: Callable[[str], str], encoding: str = "utf-8") -> None:
    """Change a configuration file as somebody with an editor would; it may be a new one."""
    path = source.host.path(f"/etc/postgresql/{source.major}/main/{name}")
    text = path.read_bytes().decode(encoding) if path.exists() else ""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(change(text).encode(encoding))
    source.host.run("chown", "postgres:postgres", f"/etc/postgresql/{source.major}/main/{name}")


def connects(client, source: Source, tls: str = "require", dbname: str = "shop", role: str | None = None) -> str:
    """What psql on a host says when it connects as the target would."""
    words = f"host={source.host.address} dbname={dbname} user={role or source.role} password={PASSWORD} sslmode={tls}"
    return client.run("psql", "-XAtc", "SELECT 'hello'", words, check=False).strip()


def pairs(*sources: Source, **variables: Any) -> dict[str, Any]:
    """An inventory with a pair for each source, and the host of each. There need not be a target yet."""
    shared = {"ansible_connection": "local", "handover_target": {}, "handover_replication_password": PASSWORD}
    shared.update(variables)
    hosts = {source.host.name: source.variables() for source in sources}
    servers = {f"host_of_{source.host.name}": dict(source.host.ansible()) for source in sources}
    children = {"handover_pairs": {"hosts": hosts, "vars": shared}, "servers": {"hosts": servers}}
    return {"all": {"children": children}}


def prepare(sources: list[Source], inventory: dict[str, Any], **options: Any) -> PlaybookResult:
    return start("prepare_source", sources, inventory, **options).wait(400)


def finish(sources: list[Source], inventory: dict[str, Any], tags=("source",), **options: Any) -> PlaybookResult:
    """Without ``tags``, the target is looked at, too."""
    return start("finish", sources, inventory, tags=tags, **options).wait(400)


def start(
    name: str,
    sources: list[Source],
    inventory: dict[str, Any],
    check: bool = False,
    diff: bool = False,
    tags: Iterable[str] = (),
    **variables: Any,
) -> Running:
    """Start a playbook at the controller of the hosts' network, with these variables besides."""
    return start_playbook(
        f"handover.postgresql.{name}",
        inventory,
        check=check,
        diff=diff,
        tags=tags,
        env=ENVIRONMENT,
        extra_vars={"handover_serial": len(sources), **variables},
        here=sources[0].host.network.here,
    )


def succeeded(result: PlaybookResult) -> PlaybookResult:
    assert not result.failed, result
    return result


def refused(result: PlaybookResult, *words: str) -> PlaybookResult:
    """The result of a run that failed with messages in which all of these words are."""
    assert result.failed, result
    messages = "\n".join(failure["msg"] for failure in result.failures)
    assert all(word in messages for word in words), messages
    return result
