# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook prepare_source on Debian hosts, over SSH: from a fresh installation to replication, and back."""

from __future__ import annotations

import re

import pytest
from source_hosts import PASSWORD, Source, connects, edit, finish, pairs, prepare, refused, succeeded
from support import ROOT

from lab.hosts import HostError

EXAMPLES = ROOT / "docs" / "examples" / "tasks"
EARLY = """# a comment
local all postgres peer
host all all 10.0.0.0/8 reject
"""
CONTINUED = """# a comment that goes on \\
host all all all trust
host "a b",c \\
     all 192.168.0.0/16 \\
     md5
"""
RULES = "".join(f"# {i} größer\nhost all role_{i} 172.16.{i}.0/24 md5\n" for i in range(100))


def test_a_fresh_installation_is_made_ready_and_put_back(new_source, target_host, host):
    sources = [new_source(13)]
    inventory = pairs(*sources, handover_target_addresses=[target_host.address])
    before = [(one.files(), one.state()) for one in sources]
    started = [one.started() for one in sources]

    checked = succeeded(prepare(sources, inventory, check=True, diff=True))
    for one in sources:
        assert f"+hostssl shop {one.role} {target_host.address}/32 scram-sha-256" in checked.stdout
    assert checked.stdout.count("+listen_addresses = *") == checked.stdout.count("+wal_level = logical") == 1
    assert [(one.files(), one.state()) for one in sources] == before

    asked = refused(prepare(sources, inventory), "wal_level: replica is in force", "handover_allow_restart: true")
    assert len(asked.failures) == 1 and "main restart" in asked.failures[0]["msg"]
    assert [one.started() for one in sources] == started

    done = succeeded(prepare(sources, inventory, handover_allow_restart=True))
    assert done.changed
    started = [one.started() for one in sources]
    again = succeeded(prepare(sources, inventory, handover_allow_restart=True))
    assert not again.changed and [one.started() for one in sources] == started
    stranger = host(17, "stranger")
    for one in sources:
        assert connects(target_host, one) == "hello"
        assert "no pg_hba.conf entry" in connects(target_host, one, tls="disable")
        assert "no pg_hba.conf entry" in connects(target_host, one, dbname="postgres")
        assert "no pg_hba.conf entry" in connects(target_host, one, role="postgres")
        assert "no pg_hba.conf entry" in connects(stranger, one)
    replicate(target_host, sources[0])

    refused(finish(sources[:1], pairs(sources[0])), "is still in use")
    target_host.psql("DROP SUBSCRIPTION arrivals")
    inventory["all"]["children"]["handover_pairs"]["vars"]["handover_target"] = Source(target_host).endpoint()
    back = succeeded(finish(sources, inventory, tags=[], handover_allow_restart=True))
    assert back.changed and [one.files() for one in sources] == [files for files, _state in before]
    for one, (_files, state) in zip(sources, before):
        assert one.state() ^ state == set()
        assert one.host.run("ls", "-A", "/root/.ansible_async").strip() == ""
    assert not succeeded(finish(sources, inventory, tags=[])).changed


def replicate(target, source: Source) -> None:
    """A subscription such as a target makes, from the oldest major to the newest, as the new role."""
    source.host.psql("CREATE TABLE t (i int PRIMARY KEY); CREATE PUBLICATION departures FOR TABLE t", "shop")
    target.psql("CREATE TABLE t (i int PRIMARY KEY)")
    way = f"host={source.host.address} dbname=shop user={source.role} password={PASSWORD} sslmode=require"
    target.psql(f"CREATE SUBSCRIPTION arrivals CONNECTION '{way}' PUBLICATION departures WITH (copy_data = false)")
    source.host.psql("INSERT INTO t VALUES (7)", "shop")
    target.run("sh", "-c", "until [ \"$(runuser -u postgres -- psql -Atc 'TABLE t')\" = 7 ]; do sleep 0.1; done")
    source.host.psql("DROP PUBLICATION departures; DROP TABLE t", "shop")


def test_configuration_in_files_long_rules_and_other_instances(new_source, target_host):
    included, appended, crowded = new_source(15), new_source(17), new_source(13)
    edit(included, "conf.d/tuning.conf", lambda text: "work_mem = 5MB\nmax_wal_senders = 1\n")
    edit(included, "pg_hba.conf", lambda text: EARLY + CONTINUED + RULES + text)
    edit(
        appended, "postgresql.conf", lambda text: re.sub("(?m)^include_dir.*\n", "", text) + "allow_alter_system = off"
    )
    edit(appended, "pg_hba.conf", lambda text: "include_dir hba.d\n" + text.rstrip())
    edit(appended, "hba.d/10.conf", lambda text: EARLY)
    edit(crowded, "pg_hba.conf", lambda text: EARLY + RULES + text, encoding="latin-1")
    crowded.host.run("pg_createcluster", "13", "other", "--start")
    for one in (included, appended):
        one.host.run("pg_ctlcluster", one.major, "main", "restart")
    sources = [included, appended, crowded]
    inventory = pairs(*sources, handover_target_addresses=[target_host.address], handover_allow_restart=True)
    inventory["all"]["children"]["handover_pairs"]["hosts"]["source15"]["handover_settings_method"] = "conf_file"
    before = [one.files() for one in sources]
    other = crowded.started(5433)

    checked = succeeded(prepare(sources, inventory, check=True, diff=True))
    assert checked.stdout.count("+wal_level = 'logical'") == 2 and [one.files() for one in sources] == before
    assert succeeded(prepare(sources, inventory)).changed and not succeeded(prepare(sources, inventory)).changed
    assert "zz_handover.conf" in included.host.run("ls", "/etc/postgresql/15/main/conf.d")
    assert appended.files()["postgresql.conf"].endswith(b"# END handover.postgresql\n")
    assert {one.setting("max_wal_senders") for one in sources} == {"2", "10"}
    for one in sources:
        assert one.setting("wal_level") == "logical" and connects(target_host, one) == "hello"
        assert b"wal_level" not in one.files()["postgresql.auto.conf"] or one is crowded
    assert crowded.started(5433) == other, "only one of the instances was restarted"

    with included.host.path("/etc/postgresql/15/main/conf.d/zz_handover.conf").open("a") as file:
        file.write("work_mem = '7MB'\n")
    succeeded(finish(sources, inventory))
    assert crowded.started(5433) == other
    kept = included.files()
    assert kept.pop("conf.d/zz_handover.conf").endswith(b"\nwork_mem = '7MB'\n"), "that line is somebody else's"
    assert {**kept, "modes": b""} == {**before[0], "modes": b""}
    assert [appended.files(), crowded.files()] == before[1:]
    assert {one.setting("wal_level") for one in sources} == {"replica"}


def test_what_turns_the_target_away_or_overrides_is_named(new_source, target_host):
    one = new_source(15)
    edit(one, "postgresql.conf", lambda text: f"{text}max_wal_senders = 1\n")
    one.host.run("pg_ctlcluster", one.major, "main", "restart")
    inventory = pairs(one, handover_target_addresses=[target_host.address], handover_settings_method="conf_file")
    before = one.files()
    last = len(before["postgresql.conf"].splitlines())
    refused(prepare([one], inventory), f"postgresql.conf:{last} decides max_wal_senders", "has been put back")
    assert one.files() == before

    edit(one, "postgresql.conf", lambda text: text.replace("max_wal_senders = 1\n", ""))
    refused(prepare([one], inventory), "handover_allow_restart")
    edit(one, "pg_hba.conf", lambda text: f"host all all {target_host.address}/32 reject\n{text}")
    refused(prepare([one], inventory), "pg_hba.conf:1: ")


def test_broken_files(new_source, target_host, tmp_path):
    one = new_source(13)
    inventory = pairs(one, handover_target_addresses=[target_host.address])
    good = one.files()
    edit(one, "pg_hba.conf", lambda text: f"{text}host all all 10.0.0.300/32 md5\n")
    before, line = one.files(), len(one.files()["pg_hba.conf"].splitlines())  # our block has 3 more
    refused(prepare([one], inventory), f"pg_hba.conf:{line}: ")
    assert (one.files(), one.role in one.state()) == (before, False)

    # Somebody breaks it while the playbook runs: what the playbook adds then does not parse as a whole, and goes.
    edit(one, "pg_hba.conf", lambda text: good["pg_hba.conf"].decode())
    tasks = tmp_path / "somebody.yml"
    tasks.write_text(
        "- name: Somebody else edits\n"
        "  ansible.builtin.shell: echo 'host all all 10.0.0.300/32 md5' >> /etc/postgresql/13/main/pg_hba.conf\n"
    )
    broken = prepare([one], inventory, handover_firewall_tasks=str(tasks))
    refused(broken, f"pg_hba.conf:{line + 3}: ", "has been put back")
    assert one.files()["pg_hba.conf"] == before["pg_hba.conf"]
    assert connects(target_host, one) != "hello"


def test_settings_on_the_command_line(new_source, target_host):
    one = new_source(15)
    one.host.run("pg_ctlcluster", one.major, "main", "restart", "-o", "-c max_wal_senders=1")
    inventory = pairs(one, handover_target_addresses=[target_host.address], handover_allow_restart=True)
    started = one.started()
    refused(prepare([one], inventory), "max_wal_senders = 2 is needed", "command line")
    assert one.started() == started
    one.host.run("pg_ctlcluster", one.major, "main", "restart")
    succeeded(prepare([one], inventory))
    assert one.setting("wal_level") == "logical" and one.started() != started


def test_the_wrong_host_is_not_edited(new_source, target_host):
    one, other = new_source(15), new_source(15, "other15")
    before = other.files()
    inventory = pairs(one, other, handover_target_addresses=[target_host.address])
    hosts = inventory["all"]["children"]["handover_pairs"]["hosts"]
    hosts["source15"]["handover_source_host"] = hosts["other15"]["handover_source_host"]
    del hosts["other15"]
    refused(prepare([one], inventory), "does not run on")
    assert other.files() == before
    with pytest.raises(HostError):
        other.host.psql(f'DROP ROLE "{one.role}"')


def test_a_firewall_lets_the_target_in_and_nobody_else(new_source, target_host, host):
    one = new_source(17)
    rules = (
        "table inet filter { chain input { type filter hook input priority 0; policy accept;"
        " iifname eth0 tcp dport 5432 reject with icmpx admin-prohibited; }; }"
    )
    one.host.run("nft", "-f", "-", stdin=rules)
    before = one.host.run("nft", "list", "ruleset")
    inventory = pairs(
        one,
        handover_target_addresses=target_host.address,
        handover_allow_restart=True,
        handover_firewall_tasks=str(EXAMPLES / "firewall_nftables.yml"),
    )
    succeeded(prepare([one], inventory))
    stranger = host(17, "stranger")
    assert connects(target_host, one) == "hello"
    assert "No route to host" in connects(stranger, one)
    assert not succeeded(prepare([one], inventory)).changed
    # The target has moved.
    assert succeeded(prepare([one], inventory, handover_target_addresses=[stranger.address])).changed
    assert connects(stranger, one) == "hello" and "No route to host" in connects(target_host, one)
    succeeded(finish([one], inventory))
    assert one.host.run("nft", "list", "ruleset") == before
