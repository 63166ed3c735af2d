"""pg_restore_import as managed services have it: the connecting role is an administrator, but no superuser."""

from __future__ import annotations

import re
import time
from contextlib import closing

import psycopg2
import pytest
from dumps import (
    as_seen_by_admin,
    assert_nothing_of_ours,
    databases,
    done,
    export,
    finish,
    listed,
    look,
    look_at_roles,
    one,
    refused,
    restore,
)
from support import Cluster, assert_same, create_database, differences
from verifications import differing, verify

from lab import builds, every_class, sample

PAIRS = [(13, 15), (14, 16), (15, 18), (17, 19), (19, 19)]


# --- the sample application ------------------------------------------------------------------------------------------

REFUSED_SETTINGS = ["setting shop.currency", "setting shop.tenant of role shop_app"]
ATTRIBUTES = {
    ("shop_replicator", "replication", None),
    ("shop_reporting", "bypassrls", None),
    ("shop_analyst", "setting", "shop.note"),
}
MEMBERSHIPS_SINCE_16 = {
    ("shop_reporting", "membership", "pg_monitor"),
    ("Shop Admin", "membership", "pg_signal_backend"),
}


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_sample_arrives_whole(servers, tmp_path, old, new):
    source, target = servers(old), servers(new, "target")
    sample.create(source.connect, "shop", scale=0.01)
    before, roles_before = look(source, "shop"), look_at_roles(source)
    done(export(source, tmp_path, target_version=new, unlogged_table_data=True))
    admin = target.managed_admin()
    result = done(restore(admin, tmp_path))
    assert listed(result.databases[0]["skipped"]) == REFUSED_SETTINGS
    assert all("permission denied" in entry["reason"] for entry in result.databases[0]["skipped"])
    left_out = {(entry["role"], entry["attribute"], entry.get("detail")) for entry in result.roles["left_out"]}
    assert left_out == ATTRIBUTES | (MEMBERSHIPS_SINCE_16 if new >= 16 else set())
    assert all(entry["reason"] for entry in result.roles["left_out"])
    assert not done(restore(admin, tmp_path)).changed
    done(finish(admin, "shop"))
    assert_nothing_of_ours(source, target)

    [database] = before["database"].values()
    settings = [text for text in database["settings"] if "shop.currency" not in text and "shop.tenant" not in text]
    expected = {**as_seen_by_admin(before), "database": {"database": {**database, "settings": settings}}}
    assert_same(expected, look(target, "shop"))
    known = {f"roles/{role}" for role, _attribute, _detail in left_out} | {"roles/shop_app"}
    known |= {f'memberships/"?{role}"? in {detail}' for role, _attribute, detail in left_out}
    known |= {"memberships/doadmin in .*"}
    assert_same(roles_before, look_at_roles(target), ignore=known)
    assert granted(target, "shop") == granted(source, "shop")
    assert_application_works(target)


def granted(cluster, dbname):
    """Who granted what to whom on the tables and columns of the sample; only the last majors know MAINTAIN."""
    query = """
        SELECT c.oid::regclass::text, attname, pg_get_userbyid(a.grantor), pg_get_userbyid(a.grantee), privilege_type
        FROM pg_class AS c LEFT JOIN pg_attribute AS t ON attrelid = c.oid AND attacl IS NOT NULL,
             aclexplode(coalesce(attacl, relacl)) AS a
        WHERE relnamespace::regnamespace::text IN ('shop', 'billing') AND privilege_type <> 'MAINTAIN'"""
    return set(cluster.sql(dbname, query))


def assert_application_works(target):
    with closing(target.connect("shop", user="shop_app", password="sample")) as session, session.cursor() as cursor:
        cursor.execute("SET shop.tenant = '1'; SELECT count(*) FROM customer")
        assert 0 < cursor.fetchone()[0] < 240
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("SELECT * FROM billing.internal_note")


def test_ownership_is_kept_also_where_the_admin_is_no_member_afterwards(servers, tmp_path):
    source, target = servers(15), servers(16, "target")
    source.sql("postgres", "CREATE ROLE a; CREATE ROLE b IN ROLE a")
    create_database(source, "of it", "OWNER a")
    source.sql("of it", "CREATE SCHEMA s AUTHORIZATION b; CREATE TABLE s.t (i serial); ALTER TABLE s.t OWNER TO a")
    done(export(source, tmp_path, target_version=16))
    admin = target.managed_admin()
    done(restore(admin, tmp_path))
    assert_nothing_of_ours(source, target)
    owners = (
        "SELECT relname::text, relowner::regrole::text FROM pg_class WHERE relnamespace = 's'::regnamespace ORDER BY 1"
    )
    assert target.sql("of it", owners) == [("t", "a"), ("t_i_seq", "a")]
    held = "SELECT pg_has_role('doadmin', 'a', 'USAGE'), pg_has_role('doadmin', 'a', 'SET')"
    assert target.sql("postgres", held) == [(False, False)]
    target.sql("postgres", "GRANT a TO CURRENT_USER WITH SET TRUE", user=admin["user"], password=admin["password"])
    assert not done(restore(admin, tmp_path)).changed, "also as one who is a member by now"
    assert target.sql("postgres", "SELECT pg_has_role('doadmin', 'a', 'SET')") == [(True,)]


def test_no_owner(servers, tmp_path):
    source, target = servers(15), servers(18, "target")
    sample.create(source.connect, "shop", scale=0.01)
    done(export(source, tmp_path, target_version=17))
    admin = target.managed_admin()
    done(restore(admin, tmp_path, no_owner=True))
    done(finish(admin, "shop"))
    owners = {value["owner"] for name, value in look(target, "shop")["objects"].items()}
    assert owners <= {"doadmin", "pg_database_owner", None}
    assert target.sql("shop", "SELECT has_table_privilege('shop_app', 'shop.customer', 'UPDATE')") == [(True,)]


def test_the_database_of_the_service(servers, tmp_path):
    """It stays the administrator's, who has no other, and the former owner may do there what an owner may."""
    source, target = servers(15), servers(18, "target")
    sample.create(source.connect, "shop", scale=0.01)
    done(export(source, tmp_path, target_version=18, unlogged_table_data=True))
    admin = {**target.managed_admin(), "dbname": "defaultdb"}
    create_database(target, "defaultdb", "OWNER doadmin")
    options = {"create": False, "rename": {"shop": "defaultdb"}}
    imported = one(restore(admin, tmp_path, **options))
    own = [f"{what} of DATABASE defaultdb" for what in ("comment", "connection limit", "owner")]
    assert listed(imported["skipped"]) == sorted([*REFUSED_SETTINGS, *own])
    assert not done(restore(admin, tmp_path, **options)).changed
    compared = verify(source, admin, databases=["shop"], rename={"shop": "defaultdb"})
    left = {
        f"{one['class']} {one['object']}"
        for one in compared.databases[0]["left_out"]
        if "create is false" in one["reason"]
    }
    assert left == {"database database", "owners database", "privileges database"}, left
    assert not left & differing(compared)
    done(restore(admin, None, state="finished", databases=["shop"], rename={"shop": "defaultdb"}))
    before, after = as_seen_by_admin(look(source, "shop")), look(target, "defaultdb")
    assert_same(before, after, ignore=["database/database"])
    [of_source], [of_target] = before["database"].values(), after["database"].values()
    assert (of_target["owner"], of_target["datconnlimit"], of_target["comment"]) == ("doadmin", -1, None)
    own = [f"doadmin={privilege}" for privilege in ("CONNECT", "CREATE", "TEMPORARY")]
    assert of_target["privileges"] == sorted([*of_source["privileges"], *own])
    assert set(of_source["settings"]) - set(of_target["settings"]) == {
        "-: shop.currency=EUR",
        "shop_app: shop.tenant=1",
    }
    assert_nothing_of_ours(target)


def test_schema_public_of_somebody_else(servers, tmp_path):
    """Its owners cannot have tables there, which is said; the administrator can."""
    source, target = servers(15), servers(18, "target")
    sample.create(source.connect, "shop", scale=0.01)
    done(export(source, tmp_path, target_version=18))
    admin = target.managed_admin()
    create_database(target, "defaultdb")
    target.sql("defaultdb", "GRANT CREATE ON DATABASE defaultdb TO doadmin; GRANT ALL ON SCHEMA public TO doadmin")
    options = {"create": False, "rename": {"shop": "defaultdb"}}
    result = refused(restore(admin, tmp_path, **options), "permission denied for schema public", "OWNER TO")
    assert all("public" in error for error in result.errors)
    imported = one(restore(admin, tmp_path, **options, no_owner=True))
    assert 'COMMENT SCHEMA "public"' in listed(imported["skipped"])
    assert look(target, "defaultdb")["objects"]["table public.values_of_note"]["owner"] == "doadmin"


def test_autovacuum_is_not_in_the_way(servers, new_cluster, tmp_path):
    """It may not be ended by somebody who is no superuser; the server ends it when its database is dropped."""
    source = servers(15)
    create_database(source, "of it")
    source.sql("of it", "CREATE TABLE t (i int)")
    done(export(source, tmp_path, target_version=16))
    slowly = {"autovacuum_naptime": 1, "autovacuum_vacuum_cost_delay": "100ms", "autovacuum_vacuum_cost_limit": 1}
    target = new_cluster(16, settings=slowly)
    admin = target.managed_admin()
    create_database(target, "of it", "OWNER doadmin")
    target.sql("of it", "CREATE TABLE busy AS SELECT repeat('x', 500) FROM generate_series(1, 100000)")
    query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND datname = 'of it'"
    deadline = time.monotonic() + 60
    while target.sql("postgres", query) == [(0,)]:
        assert time.monotonic() < deadline, "autovacuum does not come"
        time.sleep(0.1)
    assert one(restore(admin, tmp_path, replace=True, replace_databases=["of it"]))["changed"]
    assert set(look(target, "of it")["relations"]) == {"public.t", "handover.restore"}


def test_passwords_that_could_not_be_read(servers, tmp_path):
    """From one service to the next: nobody may read pg_authid, so the operator gives passwords anew."""
    source, target = servers(15), servers(18, "target")
    from_admin, to_admin = source.managed_admin("former"), target.managed_admin()
    source.sql("postgres", "CREATE ROLE app LOGIN PASSWORD 'the former one'; CREATE ROLE other LOGIN PASSWORD 'x'")
    create_database(source, "of it", "OWNER former")
    source.sql("of it", "CREATE TABLE t (i int); ALTER TABLE t OWNER TO former; GRANT SELECT ON t TO app")
    assert done(export(from_admin, tmp_path, target_version=18)).roles["passwords"] == "unreadable"
    passwords = {"role_passwords": {"app": "the new password", "former": "a password of its own"}}
    result = done(restore(to_admin, tmp_path, **passwords))
    assert [entry["role"] for entry in result.roles["without_password"]] == ["other"]
    assert not any("the new password" in statement for statement in result.roles["statements"])
    target.sql("of it", "SELECT * FROM t", user="app", password="the new password")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        target.connect("of it", user="app", password="the former one")
    assert not done(restore(to_admin, tmp_path, **passwords)).changed


# --- what services keep to themselves --------------------------------------------------------------------------------

# Tables whose rows need what only a superuser can make: a base type, an extension, an access method.
NEED_SUPERUSER = ["every.typed_values", "every.of_cube", "every.another_heap*"]

# What is refused for its own sake, on every major; everything else that is skipped needs one of these.
RESERVED = """
    SUBSCRIPTION every_subscription
    DEFAULT ACL every.DEFAULT PRIVILEGES FOR FUNCTIONS
    EXTENSION bloom, EXTENSION dblink, EXTENSION earthdistance, EXTENSION file_fdw, EXTENSION moddatetime
    EXTENSION pageinspect, EXTENSION pg_stat_statements, EXTENSION postgres_fdw
    FUNCTION every.call_handler(), FUNCTION every.inline_handler("internal"), FUNCTION every.validator("oid")
    FUNCTION every.number_from_sql("internal"), FUNCTION every.c_function("oid"), FUNCTION every.row_number_too()
    FUNCTION every.like_too("text"; "text"), FUNCTION every.many_faces(integer; "text"[])
    SHELL TYPE every.number, SHELL TYPE every.whole_range, TYPE every.shell_only
    AGGREGATE every.mean(numeric), AGGREGATE every.percentile(double precision; "anyelement")
    AGGREGATE every.rank_if("any")
    ACCESS METHOD every_gist, ACCESS METHOD every_heap
    OPERATOR FAMILY every.empty_family, OPERATOR FAMILY every.strange_array_ops
    TEXT SEARCH PARSER every.own_parser, TEXT SEARCH TEMPLATE every.own_template
    FOREIGN DATA WRAPPER every_wrapper
    USER MAPPING USER MAPPING every_owner SERVER Every Server, USER MAPPING USER MAPPING public SERVER Every Server
    USER MAPPING USER MAPPING every_owner SERVER every_postgres
    PUBLICATION Every Table
    ACL pg_catalog.FUNCTION "pg_ls_dir"("text"), ACL pg_catalog.COLUMN "pg_authid"."rolname"
    EVENT TRIGGER Every End, EVENT TRIGGER every_drop, EVENT TRIGGER every_rewrite, EVENT TRIGGER every_start"""
RESERVED_SINCE = {
    16: {"SUBSCRIPTION Every Option", "PUBLICATION TABLES IN SCHEMA Every Other.every_schema Every Other"},
    18: {"EVENT TRIGGER every_login"},
}
REASONS = (
    "permission denied ",
    "must be superuser ",
    "only superuser",
    "aggregate transition data type cannot be ",
    "server ",
    "a restored subscription ",
    "only the owner of an extension ",
)


def reserved(major):
    names = {name.replace(";", ",") for name in re.split(r"\s*[,\n]\s+", RESERVED.strip())}
    return names.union(*(more for since, more in RESERVED_SINCE.items() if since <= major))


@pytest.mark.parametrize(("old", "new"), [(13, 15), (16, 16), (18, 18)])
def test_exactly_what_is_reserved_is_left_out(servers, tmp_path, old, new):
    source, target = servers(old), servers(new, "target")
    every_class.create(source.connect, "every")
    before = look(source, "every")
    done(export(source, tmp_path, target_version=new, unlogged_table_data=True, exclude_tables=NEED_SUPERUSER))
    admin = target.managed_admin()
    skipped = one(restore(admin, tmp_path))["skipped"]
    for_its_own_sake = [entry for entry in skipped if not entry["reason"].startswith("needs ")]
    assert all(entry["reason"].startswith(REASONS) for entry in for_its_own_sake)
    comments = {f'COMMENT EXTENSION "{name}"' for name in before["extensions"]}
    assert {entry["object"] for entry in for_its_own_sake} == reserved(new) | comments
    done(finish(admin, "every"))
    after = look(target, "every")
    assert_nothing_of_ours(source, target)

    absent = {key(name) for name in set(before["objects"]) - set(after["objects"])}
    absent -= {"triggermoddatetimeonevery.plain", "compositetypeextensions.dblink_pkey_results"}
    absent -= {name for name in absent if re.search(r"every\.(typed_values|of_cube|another_heap)", name)}
    left_out = {key(entry["object"]) for entry in skipped if not entry["class"].startswith(NO_OBJECTS)}
    assert {name for name in absent if not name.startswith(tuple(left_out))} == set()
    assert {name for name in left_out if not any(one_absent.startswith(name) for one_absent in absent)} == set()
    changed = [line for line in differences(as_seen_by_admin(before), after) if "(absent)" not in line]
    assert [line for line in changed if not line.startswith(KNOWN)] == []


# Entries that are a part or a property of something else.
NO_OBJECTS = ("COMMENT", "ACL", "DEFAULT ACL", "STATISTICS DATA", "INDEX", "TABLE ATTACH", "PUBLICATION TABLES",
              "SUBSCRIPTION", "TRIGGER")  # fmt: skip
# No tablespaces; a foreign partition less; a publication without its schema; and views of a superuser, which the
# administrator owns now, may not read other owners' tables.
KNOWN = (
    "indexes/every.elsewhere",
    "relations/every.elsewhere",
    "rows/every.partly_far",
    "publications/every_schema",
    "rows of views/every.",
)


def key(name):
    """An object's class and name, as the catalog and the archive both have it."""
    name = re.sub(r"^(CAST|TRANSFORM|USER MAPPING) \1", r"\1", name).replace(" on server ", " server ")
    name = re.sub(r'["\s-]|pg_catalog\.|\(.*', "", name).lower()
    return re.sub("^(procedural|shell)", "", name)


@pytest.mark.parametrize(
    ("new", "table", "cause"),
    [
        (15, "every.of_cube", "EXTENSION earthdistance: permission denied to create extension"),
        (18, "every.typed_values", "SHELL TYPE every.number: must be superuser to create a base type"),
        (16, "every.another_heap", "ACCESS METHOD every_heap: permission denied to create access method"),
    ],
)
def test_rows_are_never_left_out(servers, tmp_path, new, table, cause):
    source, target = servers(new), servers(new, "target")
    every_class.create(source.connect, "every")
    others = [name for name in NEED_SUPERUSER if not name.startswith(table)]
    done(export(source, tmp_path, target_version=new, exclude_tables=others))
    admin = target.managed_admin()
    result = refused(
        restore(admin, tmp_path), f"these tables need: {table}", f"The cause: {cause}", "exclude_extensions"
    )
    assert "COMMENT" not in result.msg
    assert databases(target) == set()
    assert_nothing_of_ours(source, target)


# --- extensions that are not there -----------------------------------------------------------------------------------


@pytest.fixture
def bare_target(run_directory):
    """A server without contrib, and its administrator."""
    with Cluster(builds.embedded()[18], run_directory / "bare") as target:
        yield target
        target.destroy()


@pytest.mark.parametrize("superuser", [True, False])
def test_an_extension_that_is_not_there(servers, bare_target, tmp_path, superuser):
    source = servers(16)
    create_database(source, "of it")
    source.sql(
        "of it",
        """CREATE EXTENSION pg_trgm; CREATE EXTENSION pgcrypto; CREATE EXTENSION hstore;
        CREATE TABLE words AS SELECT 'word ' || i AS word FROM generate_series(1, 100) AS i;
        CREATE INDEX words_trgm ON words USING gin (word gin_trgm_ops); CREATE INDEX words_word ON words (word);
        CREATE VIEW hashed AS SELECT digest(word, 'sha256') AS hash FROM words;
        CREATE VIEW upon_it AS SELECT count(*) FROM hashed; COMMENT ON VIEW upon_it IS 'gone, too';
        CREATE FUNCTION late(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN hstore($1, $1)::text; END'""",
    )
    target = bare_target.endpoint() if superuser else bare_target.managed_admin()
    done(export(source, tmp_path / "without rows", target_version=18))
    imported = one(restore(target, tmp_path / "without rows"))
    expected = {
        "EXTENSION pg_trgm",
        "EXTENSION pgcrypto",
        "EXTENSION hstore",
        "INDEX public.words_trgm",
        "VIEW public.hashed",
        "VIEW public.upon_it",
        'COMMENT public.VIEW "upon_it"',
        'COMMENT EXTENSION "pg_trgm"',
        'COMMENT EXTENSION "pgcrypto"',
        'COMMENT EXTENSION "hstore"',
    }
    if not superuser:
        expected.add('ALTER DATABASE "of it" OWNER TO "postgres"')
    skipped = {entry["object"]: entry["reason"] for entry in imported["skipped"]}
    assert {name for name in skipped if not name.startswith("STATISTICS DATA")} == expected
    assert skipped["EXTENSION pg_trgm"] == "the target does not offer this extension"
    assert skipped["VIEW public.upon_it"] == "needs EXTENSION pgcrypto"
    assert imported["rows_compared"] == 100
    after = look(bare_target, "of it")
    assert {"public.words"} <= set(after["relations"]) <= {"public.words", "handover.restore"}
    assert "public.words_word" in after["indexes"]

    source.sql(
        "of it", "CREATE TABLE pairs (h hstore); INSERT INTO pairs VALUES ('a=>1'); CREATE TABLE more (h hstore[])"
    )
    done(export(source, tmp_path / "with rows", target_version=18))
    replaced = {"replace": True, "replace_databases": ["of it"]}
    result = refused(
        restore(target, tmp_path / "with rows", **replaced), "EXTENSION hstore", "the target does not offer"
    )
    assert "these tables need: public.more, public.pairs." in result.msg
    assert "pg_trgm" not in result.msg
    assert set(look(bare_target, "of it")["relations"]) == set(after["relations"]), "what was there is still there"
    refused(restore(target, tmp_path / "with rows", exclude_extensions=["pgcrypto"], **replaced), "hstore")
    imported = one(restore(target, tmp_path / "with rows", exclude_extensions=["hstore"], **replaced))
    skipped = {entry["object"]: entry["reason"] for entry in imported["skipped"]}
    assert skipped["EXTENSION hstore"] == "it is in exclude_extensions"
    assert skipped["TABLE DATA public.pairs"] == "needs EXTENSION hstore"
    assert (imported["tables_compared"], imported["rows_compared"]) == (1, 100)
    assert databases(bare_target) == {"of it"}
