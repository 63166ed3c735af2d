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
def checkout(run_directory: Path) -> Iterator[Path]:
    """A copy of this checkout, with the virtual environment of this test run."""
    place = run_directory / "a checkout"
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(".*", "tests", "__pycache__"))
    (place / ".build").mkdir()
    (place / ".build" / "venv").symlink_to(Path(sys.executable).parent.parent)
    yield place
    demo(place, "--clean")
    shutil.rmtree(place)


def demo(checkout: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "lab.demo", *arguments], cwd=checkout, text=True, capture_output=True, check=False,
        env={**os.environ, "HANDOVER_LAB_CACHE": str(builds.cache())},
    )  # fmt: skip


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


def test_demo(checkout):
    done = demo(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.index("Recommended method: dump") < done.stdout.index("PLAY [Look at the pairs")
    assert "all equal:" in done.stdout and "changed nothing" in done.stdout
    assert "WARNING" not in done.stdout + done.stderr
    commands = dict(re.findall(r"^(source|target|run again) +([A-Z_]+=.*)$", done.stdout, re.MULTILINE))
    for end in ("source", "target"):
        assert shell(checkout, f"{commands[end]} -Atc 'SELECT count(*) FROM shop.customer'") == "24000\n"
    assert "changed=0" in shell(checkout, commands["run again"])
    assert len(servers(checkout)) == 2
    assert demo(checkout, "--clean").returncode == 0
    assert not servers(checkout) and not (checkout / ".demo").exists()


@pytest.mark.parametrize(
    ("playbook", "complaint"),
    [
        (PLAY.format("fail", "{msg: no}"), "ansible-playbook ended with exit status 2"),
        (PLAY.format("command", "'true'"), "the second run changed 1 thing"),
        (PLAY.format("debug", "{msg: no}"), "the playbook says that it changed nothing"),
    ],
)
def test_demo_fails_with_the_playbook(checkout, playbook, complaint):
    (checkout / "playbooks" / "dump.yml").write_text(playbook)
    done = demo(checkout)
    assert done.returncode == 1
    assert complaint in done.stderr and ".log" in done.stderr
    assert not servers(checkout)
