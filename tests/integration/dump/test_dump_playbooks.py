# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks of the dump migration, run as users run them."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import datetime, timedelta

import pytest
import yaml
from dumps import CLIENTS, JOURNAL, assert_nothing_of_ours, databases, look, look_at_roles
from faults import await_that, watching
from support import ROOT, assert_same, create_database, run_playbook, start_playbook

from ansible_collections.handover.postgresql.plugins.filter.plain import plain
from lab import sample

DUMP, FINISH = "handover.postgresql.dump", "handover.postgresql.finish"
STRANGE = ["a b", "a_b", "-d host=evil; {{ 7 * 7 }} Ünïcode\"'"]
EXPORT = "handover.postgresql.dump : Export each database"
IMPORT = "handover.postgresql.dump : Import each database"


COUNT = "SELECT count(*) FROM t"


def ends(source, target, **variables):
    """The variables of a pair; clusters stand for their superusers."""
    source, target = (end if isinstance(end, dict) else end.endpoint() for end in (source, target))
    return {"handover_source": source, "handover_target": target, **variables}


@pytest.fixture
def inventory(tmp_path):
    """``inventory(pair=ends(...), ...)`` is an inventory of these pairs, all on this machine."""

    def make(**pairs):
        variables = {
            "ansible_connection": "local",
            "handover_source_is_quiet": True,
            "handover_client_directory": CLIENTS,
            "handover_dump_directory": f"{tmp_path}/dumps/{{{{ inventory_hostname }}}}",
            "handover_report_directory": f"{tmp_path}/reports",
            "handover_rehearse": False,  # many databases, many runs: tests/integration/rehearsal and /roles rehearse
        }
        return {"all": {"vars": variables, "hosts": pairs}}

    return make


def fill(cluster, *names, rows=20):
    """Make databases, each with a table of its own and a role that owns it."""
    for name in names:
        create_database(cluster, name)
        cluster.sql(name, "CREATE TABLE t (i int PRIMARY KEY, t text)")
        cluster.sql(name, "INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, %s) AS i", [rows])


def report(tmp_path, pair="pair"):
    """The report for programs, without what nobody compares."""
    return json.loads((tmp_path / "reports" / f"{pair}.json").read_text())


def shown(result):
    """The reports that the run showed, or nothing, without line breaks."""
    return " ".join(result.stdout.partition("PLAY [Say what was done]")[2].partition("\nDump of ")[2].split())


def succeeded(result):
    """The result of a run without a failure, also without one that was put off."""
    assert not result.failed, (result.failures, result.stdout[-2500:])
    assert not [task for task in result.tasks if task["status"] == "failed"]
    return result


def refused(result, *words):
    """The result of a run that failed with a message in which all of these words are."""
    assert result.failed, result
    messages = "\n".join(failure["msg"] for failure in result.failures)
    assert all(word in messages for word in words), messages
    return result


def everything(*clusters):
    """What the servers hold, as far as a run could change it."""
    return [
        (look_at_roles(cluster), sorted((name, str(look(cluster, name))) for name in databases(cluster)))
        for cluster in clusters
    ]


def test_whole_migration(servers, inventory, tmp_path):
    source, target = servers(16), servers(18, "target")
    rows = sample.create(source.connect, "shop", scale=0.01)["rows"]
    unlogged = source.sql("shop", "SELECT count(*) FROM shop.cart")[0][0]
    fill(source, *STRANGE)
    pairs = inventory(pair=ends(source, target))
    before = everything(source, target)

    checked = succeeded(run_playbook(DUMP, pairs, check=True, diff=True))
    assert checked.changed
    assert "shop: would be brought over." in shown(checked)
    assert "CREATE ROLE" not in checked.stdout, "nothing is known of the roles before they are exported"
    assert everything(source, target) == before
    assert list(tmp_path.iterdir()) == []

    done = succeeded(run_playbook(DUMP, pairs, diff=True))
    assert done.changed
    assert 'CREATE ROLE "shop_app"' in done.stdout.replace("\\", "")
    for name in ["shop", *STRANGE]:
        assert_same(look(source, name), look(target, name), ignore=[*JOURNAL, "rows/shop.cart"])  # that is unlogged
    assert databases(target) == databases(source) == {"shop", *STRANGE}
    assert_same(look_at_roles(source), look_at_roles(target))
    assert_nothing_of_ours(source, target)

    first = report(tmp_path)
    compared = {one["database"]: one["import"]["rows_compared"] for one in first["databases"] if one["complete"]}
    assert compared == {**dict.fromkeys(STRANGE, 20), "shop": rows - unlogged}
    assert [first["source"]["major"], first["target"]["major"], first["point_in_time_copy"]] == [16, 18, False]
    again = succeeded(run_playbook(DUMP, pairs))
    assert not again.changed
    assert report(tmp_path) == first
    assert plain((tmp_path / "reports" / "pair.md").read_text()) in again.stdout
    assert "next: Point the application at the target, then" in again.stdout

    assert succeeded(run_playbook(FINISH, pairs, check=True)).changed
    assert target.sql("shop", "SELECT to_regnamespace('handover') IS NOT NULL") == [(True,)]
    assert succeeded(run_playbook(FINISH, pairs)).changed
    for name in ["shop", *STRANGE]:
        assert_same(look(source, name), look(target, name), ignore=["rows/shop.cart"])
    again = run_playbook(DUMP, pairs)
    refused(again, "Not brought over")
    assert 'The target already has a database "shop"' in shown(again)


def test_fleet(servers, inventory, tmp_path):
    """Pairs with errors of their own, which stop nobody else."""
    old, new, target = servers(13), servers(16), servers(18, "target")
    fill(old, "one", "two", "three")
    fill(new, "four", "five")
    old.sql("postgres", "CREATE ROLE app LOGIN PASSWORD 'of the application' SUPERUSER")
    old.sql("two", "ALTER TABLE t OWNER TO app")
    create_database(target, "three")
    admin = target.managed_admin()
    pairs = inventory(
        old=ends(old, admin),
        new=ends(new, target, handover_rename={"four": "vier"}),
        wrong=ends({**new.endpoint(), "password": "wrong, and long"}, target),
        without={"handover_source": new.endpoint()},
    )
    done = refused(
        run_playbook(DUMP, pairs, args=["--forks=8"]),
        "handover_target is missing.",
        "password authentication failed",
        "Not brought over: three",
    )
    assert {host for host, stats in done.stats.items() if stats["failures"]} == {"old", "wrong", "without"}
    assert databases(target) == {"one", "two", "three", "vier", "five"}
    assert {target.sql(name, COUNT)[0][0] for name in databases(target) - {"three"}} == {20}
    assert target.sql("two", "SELECT tableowner FROM pg_tables WHERE tablename = 't'") == [("app",)]
    [broken] = [one for one in report(tmp_path, "old")["databases"] if not one["complete"]]
    assert broken["database"] == "three" and 'already has a database "three"' in broken["error"]
    assert broken["export"]["rows"] == 20 and broken["import"] is None
    written = (tmp_path / "reports" / "old.md").read_text()
    assert "`three`: NOT BROUGHT OVER. The target already has a database" in written
    left_out = report(tmp_path, "old")["roles"]["import"]["left_out"]
    assert [(one["role"], one["attribute"]) for one in left_out] == [("app", "superuser")]
    assert not list((tmp_path / "reports").glob("wrong*"))

    target.sql("postgres", "DROP DATABASE three")
    again = succeeded(run_playbook(DUMP, pairs, args=["-e", '{"handover_hosts": "old:new"}']))
    assert {host for host, stats in again.stats.items() if stats["changed"]} == {"old/three"}
    assert [one["complete"] for one in report(tmp_path, "old")["databases"]] == [True] * 3
    assert not succeeded(run_playbook(DUMP, pairs, args=["-e", "handover_hosts=old:new"])).changed
    assert_nothing_of_ours(old, new, target)


def test_a_limit_hides_no_database(servers, inventory, tmp_path):
    """Hosts that are not in the inventory are never in a limit."""
    source, target = servers(16), servers(18, "target")
    fill(source, "one", "two", "three")
    create_database(target, "two")
    pairs = inventory(pair=ends(source, target), other={})
    done = refused(run_playbook(DUMP, pairs, args=["--limit=pair"]), "Not brought over: two.")
    assert set(done.stats) == {"pair"}
    assert [target.sql(name, COUNT) for name in ("one", "three")] == [[(20,)], [(20,)]]
    target.sql("postgres", "DROP DATABASE two")
    assert succeeded(run_playbook(DUMP, pairs, args=["--limit=pa*"])).changed
    assert target.sql("two", COUNT) == [(20,)]
    assert all(one["complete"] for one in report(tmp_path)["databases"])


def test_tags(servers, inventory, tmp_path):
    source, target = servers(16), servers(18, "target")
    fill(source, "one")
    source.sql("postgres", "CREATE ROLE app LOGIN PASSWORD 'of the application'")
    pairs = inventory(pair=ends(source, target))

    def run(*tags, **options):
        return run_playbook(DUMP, pairs, tags=tags, **options)

    assert "one: not looked at in this run." in shown(succeeded(run("report")))
    assert list(tmp_path.iterdir()) == []
    refused(run("import"), "Not brought over: one")
    assert databases(target) == set()
    assert succeeded(run("roles")).changed
    assert target.sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'app'") == [(1,)]
    assert "one: exported." in shown(succeeded(run("export")))
    assert databases(target) == set()
    assert not (tmp_path / "reports").exists(), "a part of the work makes no report"
    assert "one: brought over. Compared: 20 rows in 1 table." in shown(succeeded(run("import")))
    target.sql("postgres", "DROP DATABASE one")
    create_database(target, "one")
    unseen = run_playbook(DUMP, pairs, skip_tags=["report"])
    refused(unseen, "Not brought over: one")
    assert not shown(unseen)
    assert not (tmp_path / "reports").exists()


def overlap(result):
    """Whether a database was exported while another one still was."""
    exports = [one["databases"][0] for done in result.results(EXPORT) for one in done.results]
    assert len(exports) == 5
    spans = sorted(map(span, exports))
    return any(later[0] < earlier[1] for earlier, later in zip(spans, spans[1:]))


def span(export):
    """When an export had its snapshot, and when it was done."""
    begun = datetime.fromisoformat(export["snapshot"]["time"].replace("Z", "+00:00"))
    seconds = sum(stage["seconds"] for stage in export["stages"] if stage["stage"] != "snapshot")
    return begun, begun + timedelta(seconds=seconds)


@pytest.mark.parametrize(("throttle", "parallel"), [(0, True), ("1", False)])
def test_throttle(servers, inventory, throttle, parallel):
    source, target = servers(16), servers(18, "target")
    fill(source, "one", "two", "three", "four", "five", rows=50000)
    pairs = inventory(pair=ends(source, target, handover_throttle=throttle))
    done = succeeded(run_playbook(DUMP, pairs, tags=["export"], args=["--forks=5"]))
    assert overlap(done) is parallel


def told(result):
    """What the failed hosts of a run were told, by host."""
    return {task["host"]: task["result"]["msg"] for task in result.tasks if task["status"] == "failed"}


def test_somebody_has_to_say_whether_the_source_is_quiet(servers, inventory, tmp_path):
    source, target = servers(16), servers(18, "target")
    fill(source, "one")
    pairs = inventory(unsaid=ends(source, target), empty=ends(source, target, handover_source_is_quiet=""))
    del pairs["all"]["vars"]["handover_source_is_quiet"]
    for check in (True, False):
        found = told(run_playbook(DUMP, pairs, check=check))
        assert found.keys() == {"unsaid", "empty"}
        assert all("handover_source_is_quiet" in message for message in found.values())
        assert "whatever an application writes" in found["unsaid"] and "is lost" in found["unsaid"]
    assert databases(target) == set()
    assert list(tmp_path.iterdir()) == []


def test_rehearsal(servers, inventory, tmp_path):
    """A dump of a source that was in use is not taken for the last one, nor is one of before the last writes."""
    source, target = servers(16), servers(18, "target")
    fill(source, "one")
    pairs = inventory(pair=ends(source, target))
    more = "INSERT INTO t SELECT max(i) + 1, 'later' FROM t"

    def run(quiet, **options):
        return run_playbook(DUMP, pairs, extra_vars={"handover_source_is_quiet": quiet, **options})

    assert "A point-in-time copy" in shown(succeeded(run(False)))
    source.sql("one", more)
    assert not succeeded(run(False)).changed
    quiet = run(True)
    refused(quiet, "Not brought over: one")
    assert "when nobody had said that the source is quiet" in shown(quiet)
    assert target.sql("one", COUNT) == [(20,)]
    again = {"handover_force": True, "handover_replace": True, "handover_replace_databases": ["one"]}
    assert succeeded(run(True, **again)).changed
    assert target.sql("one", COUNT) == [(21,)]
    assert not report(tmp_path)["point_in_time_copy"]
    source.sql("one", "VACUUM ANALYZE")
    assert not succeeded(run(True)).changed
    source.sql("one", more)
    stale = run(True)
    refused(stale, "Not brought over: one")
    assert "somebody wrote to the source" in shown(stale)
    assert target.sql("one", COUNT) == [(21,)]


def test_writes_during_the_dump_of_a_quiet_source_are_told(servers, inventory):
    source, target = servers(16), servers(18, "target")
    fill(source, "one")
    source.sql("one", "CREATE TABLE held (i int) PARTITION BY RANGE (i)")
    pairs = inventory(pair=ends(source, target))
    with closing(source.connect("one", autocommit=False)) as holder, watching(source) as watch:
        holder.cursor().execute("LOCK TABLE held")
        dump = start_playbook(DUMP, pairs, tags=["export"])
        watch.await_blocked(holder)  # pg_dump, which alone has to do with a table that has no rows of its own
        source.sql("one", "INSERT INTO t VALUES (0, 'late')")
        await_that(lambda: source.sql("one", "SELECT 1 FROM pg_stat_user_tables WHERE n_tup_ins = 21"), "counts")
    assert "Somebody wrote to the source during the dump" in shown(succeeded(dump.wait()))
    assert "export again with force: true" in shown(run_playbook(DUMP, pairs)), "it stays said"


def test_answers_of_a_survey_are_strings(servers, inventory, tmp_path):
    source, target = servers(16), servers(18, "target")
    fill(source, "one", "two", "three")
    source.sql("postgres", "CREATE ROLE app LOGIN PASSWORD 'of the application'")
    source.sql("one", "ALTER TABLE t OWNER TO app")
    pairs = inventory(pair=ends(source, target))
    answers = {
        "handover_source_is_quiet": "false",
        "handover_databases": "one,two",
        "handover_jobs": "2",
        "handover_no_owner": "true",
        "handover_create": "true",
        "handover_force": "no",
        "handover_count_rows": "false",
        "handover_throttle": "2",
        "handover_rename": '{"two": "zwei"}',
        "handover_analyze": "none",
    }
    done = succeeded(run_playbook(DUMP, pairs, extra_vars=answers))
    assert databases(target) == {"one", "zwei"}
    assert "A point-in-time copy" in shown(done)
    assert report(tmp_path)["point_in_time_copy"] is True
    assert "Rows were not counted and not compared." in shown(done)
    assert "- not selected: postgres, three" in shown(done)
    assert target.sql("one", "SELECT tableowner FROM pg_tables WHERE tablename = 't'") == [("postgres",)]
    assert not succeeded(run_playbook(DUMP, pairs, extra_vars=answers)).changed
    assert succeeded(run_playbook(FINISH, pairs, extra_vars=answers)).changed
    assert target.sql("zwei", "SELECT to_regnamespace('handover') IS NULL") == [(True,)]


MISTAKES = {
    "without": ({"handover_target": None}, "handover_target is missing."),
    "address": ({"handover_source": "postgresql://shop:long-enough-to-see@db/shop"}, "handover_source is a string."),
    "spelling": ({"handover_source": {"hots": "h", "password": "long enough to see"}}, "source.hots"),
    "nobody": ({"handover_source": {"host": "127.0.0.1", "port": 1}}, "Check source.host"),
    "type": ({"handover_rename": "no"}, "handover_rename is a str, and has to be a dict"),
}


@pytest.mark.parametrize(("playbook", "check"), [(DUMP, True), (FINISH, False)])
def test_mistakes_are_told(servers, inventory, tmp_path, playbook, check):
    """Each pair has its own, and is told of it."""
    both = ends(servers(16), servers(18, "target"))
    pairs = {name: {**both, **change} for name, (change, _words) in MISTAKES.items()}
    del pairs["without"]["handover_target"]
    found = told(run_playbook(playbook, inventory(**pairs), check=check))
    assert {name: words for name, (_change, words) in MISTAKES.items() if words not in found.get(name, "")} == {}, found
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_bring_over_is_a_mistake(servers, inventory):
    both = ends(servers(16), servers(18, "target"))
    pairs = inventory(empty=both, nowhere={**both, "handover_databases": ["nowhere"]})
    found = told(run_playbook(DUMP, pairs))
    assert "has no databases other than templates, postgres" in found["empty"]
    assert "has no database 'nowhere'" in found["nowhere"]


def test_finishing_without_the_source(servers, inventory):
    source, target = servers(16), servers(18, "target")
    fill(source, "one", "two")
    succeeded(run_playbook(DUMP, inventory(pair=ends(source, target))))
    gone = inventory(pair=ends({**source.endpoint(), "port": 1}, target))
    refused(run_playbook(FINISH, gone), "Check source.host")
    done = succeeded(run_playbook(FINISH, gone, extra_vars={"handover_databases": ["one"]}))
    assert done.changed and "the source was not looked at" in done.stdout
    journal = "SELECT to_regnamespace('handover') IS NOT NULL"
    assert [target.sql(name, journal) for name in ("one", "two")] == [[(False,)], [(True,)]]


def example(source, target, tmp_path):
    """The example inventory, with ``{pair: cluster}`` for the servers that it names, and this machine's directories."""
    inventory = yaml.safe_load((ROOT / "docs" / "examples" / "inventory.yml").read_text())
    for variable in ("handover_dump_directory", "handover_report_directory"):
        inventory["all"]["vars"][variable] = inventory["all"]["vars"][variable].replace("/srv/handover", str(tmp_path))
    for name, pair in inventory["all"]["hosts"].items():
        pair.update(ends(source[name], target[name]), handover_client_directory=CLIENTS)
    return inventory


def test_example_inventory(servers, tmp_path):
    source = {"blog": servers(13), "shop": servers(16), "warehouse": servers(15)}
    target = {"blog": servers(18), "shop": servers(17).managed_admin(attributes=[]), "warehouse": servers(18, "target")}
    fill(source["blog"], "blog", "news")
    fill(source["shop"], "shop", "other")
    source["shop"].sql("postgres", "CREATE ROLE shop_app LOGIN PASSWORD 'of the application'")
    fill(source["warehouse"], "stock", "sales", "scratch")
    servers(17).sql("postgres", "CREATE ROLE shop_app")
    create_database(servers(17), "defaultdb", "OWNER doadmin")
    pairs = example(source, target, tmp_path)
    said = {"handover_source_is_quiet": "true", "vault_shop_app_password": "of the shop's application"}
    for check in (True, False):
        done = succeeded(run_playbook(ROOT / "docs/examples/awx/dump.yml", pairs, check=check, extra_vars=said))
        assert set(done.stats) == {
            "blog",
            "blog/blog",
            "blog/news",
            "shop",
            "shop/shop",
            "warehouse",
            "warehouse/stock",
            "warehouse/sales",
        }
    assert databases(servers(18)) == {"blog", "news"}
    assert databases(servers(17)) == {"defaultdb"}
    assert databases(servers(18, "target")) == {"stock", "sales"}
    assert servers(17).sql("defaultdb", COUNT) == [(20,)]
    assert succeeded(run_playbook(ROOT / "docs/examples/awx/finish.yml", pairs)).changed


def test_playbooks_one_after_the_other_in_one_run(servers, inventory, tmp_path):
    """As AWX projects and pipelines import them: the hosts of databases are no pairs."""
    source, target = servers(16), servers(18, "target")
    fill(source, "one")
    playbook = tmp_path / "all.yml"
    playbook.write_text(f"- import_playbook: {DUMP}\n- import_playbook: {FINISH}\n- import_playbook: {FINISH}\n")
    done = succeeded(run_playbook(playbook, inventory(pair=ends(source, target))))
    finished = [one.finished_databases for one in done.results("handover.postgresql.pg_restore_import")]
    assert finished[-2:] == [["one"], []]


def test_directly(servers, inventory, tmp_path):
    """No dump is written; a second run changes nothing, and neither does the report."""
    source, target = servers(15), servers(18, "target")
    fill(source, "one", "two", rows=30)
    pairs = inventory(pair=ends(source, target, handover_transport="direct"))
    assert "would be brought over" in shown(succeeded(run_playbook(DUMP, pairs, check=True)))
    assert databases(target) == set()
    result = succeeded(run_playbook(DUMP, pairs))
    assert [target.sql(name, COUNT) for name in ("one", "two")] == [[(30,)], [(30,)]]
    assert "Compared: 30 rows in 1 table" in shown(result)
    assert "copy: as of" in shown(result)
    assert not list((tmp_path / "dumps").rglob("databases/*"))
    written = report(tmp_path)
    assert not succeeded(run_playbook(DUMP, pairs)).changed
    assert report(tmp_path) == written
    refused(run_playbook(DUMP, pairs, extra_vars={"handover_exclude_table_data": ["t"]}), "handover_exclude_tables")
    succeeded(run_playbook(FINISH, pairs))
    assert_nothing_of_ours(source, target)
