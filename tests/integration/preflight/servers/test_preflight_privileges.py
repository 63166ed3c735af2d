# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what the connecting roles may do: superusers, administrators of services, and roles that may do nothing."""

from __future__ import annotations

import pytest
from dumps import done
from migrations import in_step, migrate
from preflights import look, mend, run_script
from psycopg2 import sql
from support import create_database

HERE = ("replication_role", "publisher", "target_role", "subscriber", "way_back_roles")


@pytest.mark.parametrize(("old", "new"), [(13, 15), (16, 18)])
def test_superusers_may_everything(servers, old, new):
    source, target = servers(old), servers(new, "target")
    report = look(source.endpoint(), target.endpoint(), [create_database(source)])
    for check in HERE:
        assert report.levels(check) == {"ok"}, report.of(check)


@pytest.mark.parametrize(("old", "new"), [(13, 15), (15, 18)])
def test_roles_that_may_nothing(servers, old, new):
    source, target = servers(old), servers(new, "target")
    dbname = create_database(source)
    source.sql(dbname, 'CREATE ROLE app; CREATE TABLE "T" (i int PRIMARY KEY); GRANT SELECT ON "T" TO PUBLIC')
    source.sql(dbname, 'ALTER TABLE "T" OWNER TO app')
    reader = source.managed_admin("reader", attributes=[])
    nobody = target.managed_admin("no body", attributes=[])
    report = look(reader, nobody, [dbname])
    assert report.objects("replication_role", "blocker") == {"reader"}
    assert report.objects("publisher", "blocker") == {'public."T"'}
    assert report.objects("target_role", "blocker") == {dbname}
    assert "create roles" in report.of("target_role", "warning")[0]["seen"]
    assert report.levels("subscriber") == {"blocker"}
    assert report.objects("way_back_roles", "warning") == {"source: reader", 'target: "no body"'}
    [database] = report.report["databases"]
    assert database["obstacles"]["dump"] == ["target_role"]

    for check in HERE:
        for one in report.of(check):
            on_target = check in ("target_role", "subscriber") or "target: " in str(one["objects"])
            run_script(target if on_target else source, dbname if check == "publisher" else "postgres", one["remedy"])
    report = look(reader, nobody, [dbname])
    for check in HERE:
        assert report.levels(check) == {"ok"}, report.of(check)


def test_a_subscription_needs_a_password_of_the_source(servers, tmp_path):
    source, target = servers(15), servers(16, "target")
    dbname = create_database(source)
    admin = target.managed_admin(grants=["pg_create_subscription"])
    assert look(source.endpoint(), admin, [dbname]).levels("subscriber") == {"ok"}
    passfile = tmp_path / "passfile"
    passfile.touch(mode=0o600)
    passfile.write_text(f"*:*:*:*:{source.password}")
    endpoint = {**source.endpoint(), "passfile": str(passfile)}
    del endpoint["password"]
    assert "source.password" in look(endpoint, admin, [dbname]).of("subscriber", "blocker")[0]["remedy"]


@pytest.mark.parametrize("major", [15, 16])
def test_what_a_service_allows_is_only_known_by_trying(servers, major):
    source, target = servers(13), servers(major, "target")
    dbname = create_database(source)
    admin = target.managed_admin("doadmin")
    [finding] = look(source.endpoint(), admin, [dbname]).of("subscriber")
    assert finding["level"] == "unknown" and "CREATE SUBSCRIPTION" in finding["remedy"]
    with pytest.raises(Exception, match=r"permission denied|must be superuser"):
        target.sql("postgres", finding["remedy"].partition("\n")[2], user="doadmin", password=admin["password"])
    assert look(source.endpoint(), admin, [dbname], test_network="subscription").levels("subscriber") == {"blocker"}
    assert target.sql("postgres", "SELECT count(*) FROM pg_subscription") == [(0,)]


def test_what_looks_inside_of_functions_is_told_and_kept_from_it(servers, small):
    settings = {
        "shared_preload_libraries": "pg_stat_statements",
        "max_worker_processes": 10,
        "max_replication_slots": 4,
    }
    source, target = servers(15), small(17, settings | {"max_logical_replication_workers": 4})
    target.sql("postgres", "DROP DATABASE shop")
    target.sql("postgres", "CREATE EXTENSION pg_stat_statements")
    create_database(source, "shop")
    source.sql("shop", "CREATE TABLE t (id int PRIMARY KEY)")
    source.sql("postgres", sql.SQL("CREATE ROLE way SUPERUSER LOGIN PASSWORD {}").format(sql.Literal("the pa55w0rd")))
    admin = target.managed_admin(grants=["pg_create_subscription"])
    given = {"databases": ["shop"], "replication": {"user": "way", "password": "the pa55w0rd"}}

    def findings(end):
        return look(source.endpoint(), end, ["shop"]).levels("logged_passwords")

    def written_down():
        query = "SELECT count(*)::int FROM pg_stat_statements WHERE query ~ 'CONNECTION|0rd'"
        return target.sql("postgres", query)[0][0]

    assert findings(admin) == {"ok"}
    in_step(source, admin, **given)
    done(migrate(source, admin, databases=["shop"], state="stopped"))
    assert written_down() == 0
    target.sql("postgres", "ALTER ROLE doadmin SET pg_stat_statements.track = 'all'")
    assert findings(target.endpoint()) == {"ok"}
    report = look(source.endpoint(), admin, ["shop"])
    assert report.levels("logged_passwords") == {"warning"}
    mend(target, "postgres", report.of("logged_passwords"))
    assert findings(admin) == {"ok"}
    in_step(source, admin, **given, replace=True, replace_databases=["shop"])
    assert written_down() == 0
    done(migrate(source, admin, databases=["shop"], state="stopped"))
