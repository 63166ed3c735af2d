# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs every test, or the named steps of it, and says how each went.

tests/run starts it with the virtual environment's Python. Everything that is made stands in .build.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build"
COPY = BUILD / "ansible_collections" / "handover" / "postgresql"
COPY_ASIDE = BUILD / "aside" / "ansible_collections" / "handover" / "postgresql"  # ansible-test writes into its copy


class StepError(Exception):
    """A command of a step ended with an error."""


def main() -> int:
    """Run the steps in order; stop at the first that fails, unless told to go on."""
    parser = argparse.ArgumentParser(
        prog="tests/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"{', '.join(STEPS)} (default: all)")
    parser.add_argument("--keep-going", "-k", action="store_true", help="go on after a step that fails")
    arguments = parser.parse_args()
    unknown = set(arguments.steps) - set(STEPS)
    if unknown:
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    chosen = [name for name in STEPS if name in arguments.steps or not arguments.steps]
    started = time.monotonic()
    copy_tree(COPY)
    results: dict[str, tuple[float, str | None, str]] = {}
    with ThreadPoolExecutor(1) as pool:
        shown = io.StringIO()
        aside = pool.submit(run_step, ASIDE, shown) if ASIDE in chosen else None
        for name in chosen:
            results[name] = aside.result() if name == ASIDE else run_step(name)
            if name == ASIDE:
                print(shown.getvalue(), end="", flush=True)
            if results[name][1] and not arguments.keep_going:
                break
    if aside and ASIDE not in results:  # it has ended, too, and what it found need not wait for the next run
        print(shown.getvalue(), end="", flush=True)
        results[ASIDE] = aside.result()
    return report(chosen, results, time.monotonic() - started)


def run_step(name: str, output: TextIO = sys.stdout) -> tuple[float, str | None, str]:
    """Seconds that the step took, the command that failed (or None), and pytest's closing line (or nothing)."""
    print(f"\n=== {name}", file=output, flush=True)
    started, failed, outcome = time.monotonic(), None, ""
    try:
        outcome = (sanity(output) if name == ASIDE else STEPS[name]()) or ""
    except StepError as failure:
        failed, outcome = failure.args
    return time.monotonic() - started, failed, outcome


def report(chosen: list[str], results: dict[str, tuple[float, str | None, str]], seconds: float) -> int:
    """Print the summary, whose last line tells green from red, and return the exit status."""
    print("\n=== summary")
    passed = 0
    for name in chosen:
        if name not in results:
            print(f"{name:<12} not run")
            continue
        took, failed, outcome = results[name]
        print(f"{name:<12} {took:6.0f} s  {'FAILED' if failed else 'ok':<6}  {outcome}".rstrip())
        if failed:
            print(f"             {failed}")
        passed += int((re.search(r"(\d+) passed", outcome) or [0, 0])[1])
    if any(failed for took, failed, outcome in results.values()):
        print(f"FAILED after {seconds:.0f} s")
        return 1
    print(f"{passed} passed in {seconds:.0f} s")
    return 0


@contextlib.contextmanager
def beside(*command: str | Path, **environment: str) -> Iterator[None]:
    """Run a command while the block does something else; what it prints is shown afterwards."""
    output = io.StringIO()
    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(run, *command, output=output, **environment)
        try:
            yield
        finally:
            wait([end])
            print(output.getvalue(), end="", flush=True)
    end.result()


def run(*command: str | Path, cwd: Path = COPY, output: TextIO = sys.stdout, **environment: str) -> str:
    """Run a command, showing what it prints, and return the last line of that."""
    shown = " ".join(str(word) for word in command)
    print(f"--- {shown}", file=output, flush=True)
    started, last = time.monotonic(), ""
    variables = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        **environment,
    }
    with subprocess.Popen(
        command, cwd=cwd, env=variables, text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        for line in process.stdout:
            print(line, end="", file=output, flush=True)
            last = line.strip("= \n") or last
    print(f"--- {time.monotonic() - started:.1f} s", file=output, flush=True)
    if process.returncode:
        raise StepError(f"exit {process.returncode}: {shown}", last)
    return last


def copy_tree(copy: Path) -> None:
    """Put what git knows or would add where Ansible finds it: .build/ansible_collections/handover/postgresql.

    ansible-test refuses a collection outside such a path and symbolic links to one. The copy is a git repository
    of its own, because ansible-lint and ansible-test ask git which files there are.
    """
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    listed = subprocess.run(
        [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"], check=True, capture_output=True
    ).stdout
    shutil.rmtree(copy, ignore_errors=True)
    for name in os.fsdecode(listed).split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    subprocess.run(["git", "init", "--quiet", copy], check=True)


def shell_scripts() -> list[Path]:
    """Every file that starts like a shell script, whatever its name."""
    first_line = re.compile(rb"#!\S*(/| )(ba|da)?sh\b")
    files = [path for path in COPY.rglob("*") if path.is_file() and ".git" not in path.parts]
    return sorted(path.relative_to(COPY) for path in files if first_line.match(path.read_bytes()[:80]))


def lint() -> None:
    """Style and obvious errors: Python, types, shell, changelog, YAML and Ansible; the collection builds, installs and
    would be imported by Galaxy.
    """
    with beside("ansible-lint", "--strict", ANSIBLE_COLLECTIONS_PATH=str(BUILD)):  # takes as long as all the rest
        run("ruff", "check", ".")
        run("ruff", "format", "--check", ".")
        run("mypy", "--cache-dir", BUILD / "mypy")
        run("shellcheck", *shell_scripts())
        run("antsibull-changelog", "lint")
        package()


def package() -> None:
    """The collection builds, installs without the network, an execution environment learns what it needs, and Galaxy's
    importer takes it. ansible-lint has been, or is, run on more than the importer would give it.
    """
    folder = BUILD / "package"
    shutil.rmtree(folder, ignore_errors=True)
    run("ansible-galaxy", "collection", "build", "--output-path", folder)
    artifact = next(folder.glob("*.tar.gz"))
    for verb, what in (("install", artifact), ("verify", "handover.postgresql")):
        run("ansible-galaxy", "collection", verb, "--offline", what, ANSIBLE_COLLECTIONS_PATH=str(folder))
    run("ansible-builder", "introspect", folder)
    environment = Path("docs", "examples", "execution-environment.yml")
    run("ansible-builder", "create", "--file", environment, "--context", folder / "context")
    settings = {"PYTHONPATH": str(importer()), "GALAXY_IMPORTER_RUN_ANSIBLE_LINT": "false"}
    run(sys.executable, "-m", "galaxy_importer.main", artifact.name, cwd=folder, **settings)


def importer() -> Path:
    """The folder with Galaxy's importer, made where it is not there yet. The requirements file says why it is apart."""
    wanted = ROOT / "tests" / "galaxy_importer.txt"
    folder = BUILD / "galaxy_importer" / hashlib.sha256(wanted.read_bytes()).hexdigest()[:10]
    if not folder.exists():
        shutil.rmtree(folder.parent, ignore_errors=True)
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--target", folder.with_suffix(".part")]
        run(sys.executable, "-m", "pip", "install", *options, "--requirement", wanted)
        folder.with_suffix(".part").rename(folder)
    return folder


def docs() -> None:
    """Every documentation block renders, and what it refers to exists; so do the links of the site."""
    run("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs", "self", ".")
    build_site()


def build_site() -> None:
    """The guides as they are, and what antsibull-docs makes of the rest, in .build/site/html."""
    site = BUILD / "site"
    shutil.rmtree(site, ignore_errors=True)
    pages = site / "pages"
    (pages / "collections").mkdir(parents=True, mode=0o700)
    for name in ("docs", "roles", "playbooks"):
        shutil.copytree(COPY / name, pages / name, ignore=shutil.ignore_patterns("site"))
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy2(ROOT / name, pages)
    shutil.copy2(ROOT / "docs" / "site" / "index.md", pages)
    made = ["--cleanup=everything", "--use-current", "--squash-hierarchy", f"--dest-dir={pages / 'collections'}"]
    settings = f"--config-file={ROOT / 'docs' / 'site' / 'antsibull-docs.cfg'}"
    run("antsibull-docs", settings, "collection", *made, "handover.postgresql", ANSIBLE_COLLECTIONS_PATH=str(BUILD))
    run("sphinx-build", "-M", "html", pages, site, "-c", ROOT / "docs" / "site", "-q", "-W", "--keep-going", "-j2")


def sanity(output: TextIO = sys.stdout) -> None:
    """ansible-test's own checks, in a home directory of its own."""
    copy_tree(COPY_ASIDE)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = ["ansible-test", "sanity", "--python", version]
    run(*command, cwd=COPY_ASIDE, output=output, HOME=str(sanity_home()))


def sanity_home() -> Path:
    """A home directory in which ansible-test finds pip's settings and needs no download but the package index.

    ansible-test fetches get-pip from a host of its own and hands its children no environment but HOME. So this home
    holds a stand-in for get-pip that uses the virtual environment's pip, and pip's settings as they are now.
    """
    home = BUILD / "home"
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    requirements = Path(find_spec("ansible_test").origin).parent / "_internal" / "python_requirements.py"
    for version in re.findall(r"\bpip='([\d.]+)'", requirements.read_text(encoding="utf-8")):
        shutil.copy2(ROOT / "tests" / "get_pip.py", cache / f"get_pip_{version.replace('.', '_')}.py")
    settings = home / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.touch(mode=0o600)
    with settings.open("w", encoding="utf-8") as file:
        pip_settings().write(file)
    return home


def pip_settings() -> configparser.RawConfigParser:
    """pip's settings of this moment, from its files and the environment, as one file would say them."""
    settings = configparser.RawConfigParser()
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True)
    for line in listed.stdout.splitlines():
        name, value = line.split("=", 1)
        section, option = name.replace(":env:", "global", 1).split(".", 1)
        if not settings.has_section(section):
            settings.add_section(section)
        settings.set(section, option, ast.literal_eval(value))
    return settings


def unit() -> str:
    """Pure logic, in seconds, and how much of plugins/ it reaches. Returns pytest's closing line."""
    outcome = run(sys.executable, "-m", "coverage", "run", "-m", "pytest", "-q", "tests/unit", cwd=ROOT)
    covered = run(sys.executable, "-m", "coverage", "report", "--format=total", cwd=ROOT)
    return f"{outcome}; {covered} % of the lines in plugins/"


def molecule() -> None:
    """The scenarios of extensions/molecule on servers of the lab. Those on hosts are left out where this machine can
    have none.
    """
    run(sys.executable, "-m", "lab.builds", cwd=ROOT)
    home = BUILD / "molecule"
    shutil.rmtree(home, ignore_errors=True)  # it knows servers of former runs, which are not there any more
    link = BUILD / "collections" / "ansible_collections" / "handover" / "postgresql"
    link.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        link.symlink_to(ROOT, target_is_directory=True)
    helpers = ROOT / "tests" / "helpers"
    settings = {
        "PYTHONPATH": str(helpers / "site"),
        "HANDOVER_TEST_BYTECODE": str(BUILD / "bytecode"),  # with which modules start sooner
        "ANSIBLE_HOME": str(home),
    }
    script = "from lab import builds, hosts; print(hosts.obstacle(builds.state()))"
    obstacle = run(sys.executable, "-c", script, cwd=ROOT)
    left_out = ["--exclude=prepared"] if obstacle else []
    try:
        run("molecule", "test", "--all", *left_out, cwd=ROOT, **settings)
    finally:
        run(sys.executable, "-m", "lab.pairs", "stop", BUILD / "pairs", cwd=ROOT)


def targets() -> None:
    """What is in tests/integration/targets, by ansible-test, on servers of this checkout."""
    run(sys.executable, "-m", "lab.builds", cwd=ROOT)
    copy_tree(COPY_ASIDE)
    place = COPY_ASIDE / "tests" / "integration" / "integration_config.yml"
    place.write_text(json.dumps({"lab_checkout": str(ROOT)}), encoding="utf-8")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    run("ansible-test", "integration", "--local", "--allow-destructive", "--python", version, cwd=COPY_ASIDE)


def integration() -> str:
    """Everything against real servers. Returns pytest's closing line."""
    run(sys.executable, "-m", "lab.builds", cwd=ROOT)
    # Tests mostly wait for servers and programs; each of these processes has servers of its own.
    parallel = ["-n", str(2 * (os.cpu_count() or 1)), "--dist", "loadfile", "--no-loadscope-reorder"]
    return run(sys.executable, "-m", "pytest", "-v", *parallel, "--durations=40", "tests/integration", cwd=ROOT)


# In this order: the fast ones first.
STEPS = {
    "unit": unit,
    "docs": docs,
    "lint": lint,
    "sanity": sanity,
    "molecule": molecule,
    "targets": targets,
    "integration": integration,
}
ASIDE = "sanity"  # begins with the first one: each leaves a part of two cores to others

if __name__ == "__main__":
    sys.exit(main())
