"""Indexes and materialized views that their owner can only make by what somebody else has granted."""

from __future__ import annotations

import pytest
from copies import bring_roles, copy
from dumps import done, export, look, one, restore
from support import create_database

SCHEMA = """
    CREATE ROLE library; CREATE ROLE app; CREATE SCHEMA private AUTHORIZATION library;
    GRANT USAGE ON SCHEMA private TO app; GRANT CREATE ON SCHEMA public TO app, library;
    SET ROLE library;
    CREATE TABLE private.factor (factor int); INSERT INTO private.factor VALUES (2);
    GRANT SELECT ON private.factor TO app;
    CREATE FUNCTION private.times(int) RETURNS int LANGUAGE plpgsql IMMUTABLE
        AS 'BEGIN RETURN $1 * (SELECT factor FROM private.factor); END';
    REVOKE EXECUTE ON FUNCTION private.times FROM PUBLIC; GRANT EXECUTE ON FUNCTION private.times TO app;
    SET ROLE app;
    CREATE TABLE bought (id int PRIMARY KEY, amount int);
    INSERT INTO bought SELECT i, i FROM generate_series(1, 9) AS i;
    CREATE INDEX by_times ON bought (private.times(amount));
    CREATE MATERIALIZED VIEW all_times AS SELECT sum(private.times(amount)) FROM bought;
    RESET ROLE; REVOKE CREATE ON SCHEMA public FROM app"""


@pytest.mark.parametrize("admin", ["superuser", "doadmin"])
@pytest.mark.parametrize("way", ["files", "direct"])
def test_grants_are_there_before_what_is_built_with_them(servers, tmp_path, way, admin):
    source, target = servers(15), servers(18, "target")
    create_database(source, "granted")
    source.sql("granted", SCHEMA)
    end = target.managed_admin() if admin == "doadmin" else target
    if way == "files":
        done(export(source, tmp_path, target_version=18))
        one(restore(end, tmp_path))
    else:
        bring_roles(source, end, tmp_path)
        one(copy(source, end))
    assert target.sql("granted", "SELECT * FROM all_times") == [(90,)]
    before, after = (look(cluster, "granted") for cluster in (source, target))
    assert set(after["indexes"]) >= set(before["indexes"])
    names = [name for name in before["objects"] if "private" in name or "bought" in name]
    assert names
    for name in names:
        assert after["objects"][name]["privileges"] == before["objects"][name]["privileges"], name
