"""The demo as a user sees it, in a checkout of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

from lab import builds

PLAY = "- hosts: all\n  gather_facts: false\n  tasks: [{{ansible.builtin.{}: {}}}]\n"


@pytest.fixture
def checkout(disk_directory: Path) -> Iterator[Path]:
    """A copy of this checkout, with the virtual environment of this test run."""
    place = disk_directory / "a checkout"
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(".*", "tests", "__pycache__"))
    (place / ".build").mkdir()
    (place / ".build" / "venv").symlink_to(Path(sys.executable).parent.parent)
    clients = place / "lab" / "demo" / "clients.py"
    lively = clients.read_text()
    clients.write_text(lively.replace("TRANSFERS, PURCHASES = 200, 40", "TRANSFERS, PURCHASES = 80, 20"))
    assert clients.read_text() != lively
    yield place
    demo(place, "--clean")
    shutil.rmtree(place)


def demo(checkout: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "lab.demo", *arguments],
        cwd=checkout,
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, "HANDOVER_LAB_CACHE": str(builds.cache())},
    )


def servers(checkout: Path) -> list[str]:
    """Command lines of the demo's servers that run."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(place.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if f"-D {checkout}/.demo" in line]


def shell(checkout: Path, command: str) -> str:
    """What a command prints that the demo told the user to run."""
    return subprocess.run(command, shell=True, cwd=checkout, text=True, check=True, capture_output=True).stdout


def asked(checkout: Path, psql: str, query: str) -> str:
    """What a database of the demo answers."""
    return shell(checkout, f'{psql} -Atc "{query}"').strip()


def test_demo(checkout):
    """Both parts: by dump, and continuously."""
    done = demo(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.index("Recommended method: dump") < done.stdout.index("PLAY [Look at the pairs")
    assert done.stdout.count("all equal:") == 2 and "changed nothing" in done.stdout
    assert "WARNING" not in done.stdout + done.stderr
    assert_nothing_was_noticed(done.stdout)
    commands = re.findall(r"^(source|target|run again) +([A-Z_]+=.*)$", done.stdout, re.MULTILINE)
    shop, store = dict(commands[:3]), dict(commands[3:])
    for end in ("source", "target"):
        assert asked(checkout, shop[end], "SELECT count(*) FROM shop.customer") == "24000"
    assert "changed=0" in shell(checkout, shop["run again"])
    assert_handed_over(checkout, store)
    assert len(servers(checkout)) == 2
    assert demo(checkout, "--clean").returncode == 0
    assert not servers(checkout) and not (checkout / ".demo").exists()


def test_demo_with_rollback(checkout):
    done = demo(checkout, "--rollback")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\nCutover of store\n") == 2 and done.stdout.count("\nRollback of store\n") == 1
    assert_nothing_was_noticed(done.stdout)
    assert_handed_over(checkout, dict(re.findall(r"^(source|target) +([A-Z_]+=.*)$", done.stdout, re.MULTILINE)))


def assert_nothing_was_noticed(shown: str) -> None:
    """The clients of the demo wrote all the time, through PgBouncer, and the demo says so."""
    assert re.search(r"^pooler +PgBouncer", shown, re.MULTILINE)
    told = re.findall(r"^clients +([\d,]+) transactions committed so far, (.*)$", shown, re.MULTILINE)
    counts = [int(count.replace(",", "")) for count, _failures in told]
    assert {failures for _count, failures in told} == {"none failed"}
    *going_on, stopped = counts  # at once after the last look, which may have seen their last transaction
    assert len(counts) >= 8 and going_on == sorted(set(going_on)) and stopped >= going_on[-1]
    assert re.search(r"nothing lost: [\d,]+ transactions were acknowledged", shown)
    assert re.search(r"^window +\d+ ms", shown, re.MULTILINE)


def assert_handed_over(checkout: Path, store: dict[str, str]) -> None:
    """The source refuses writes, the target takes them, and neither knows of a replication."""
    write = "UPDATE bank.account SET balance = balance WHERE id = 1"
    refused = subprocess.run(
        f'{store["source"]} -c "{write}"', shell=True, cwd=checkout, text=True, check=False, capture_output=True
    )
    assert "handed over" in refused.stderr
    assert asked(checkout, store["target"], write) == "UPDATE 1"
    left = """SELECT (SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_subscription),
        (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'handover%')"""
    for end in ("source", "target"):
        assert asked(checkout, store[end], left) == "0|0|0|0"


def test_demo_fails_with_the_playbook(checkout):
    (checkout / "playbooks" / "dump.yml").write_text(PLAY.format("command", "'true'"))
    complaint = "the second run changed 1 thing"
    done = demo(checkout)
    assert done.returncode == 1
    assert complaint in done.stderr and ".log" in done.stderr
    assert not servers(checkout)
