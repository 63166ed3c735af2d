# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian hosts on one machine, each with its own network, processes and file system, reached over SSH.

They are namespaces, so they take root, and neither a container engine nor a service manager. Their network is a switch
of their own that is not attached to the machine's. Everything ends with the process that made it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.cluster import free_port, tie_to_this_process

HOST_SCRIPT = Path(__file__).resolve().parent / "host.sh"
PROGRAMS = ("unshare", "nsenter", "ip", "ssh", "ssh-keygen", "mount", "chroot")
SUBNET = "10.77.0"
ADMIN = "admin"  # logs in with a key, and may use sudo


class HostError(Exception):
    """A host could not be made, or a command on it failed; the message ends with what was printed."""


def obstacle(directory: Path) -> str:
    """Why there can be no hosts on this machine, with their files in ``directory``; empty if there can."""
    if os.geteuid() != 0:
        return "hosts in namespaces take root"
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        return f"hosts in namespaces take {', '.join(missing)}"
    for name in ("lower", "upper", "work", "root"):
        (directory / "trial" / name).mkdir(parents=True, exist_ok=True)
    options = "lowerdir=lower,upperdir=upper,workdir=work"
    trial = f"ip link add type bridge && mount -t overlay overlay -o {options} root && mount -t proc proc root"
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", trial],
        cwd=directory / "trial",
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(directory / "trial", ignore_errors=True)
    return "" if done.returncode == 0 else f"no namespaces here: {done.stderr.strip()}"


class Network:
    """A switch with a controller at it, from where hosts are reached; as a context manager it goes with its hosts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hosts: list[Host] = []
        self._addresses = (f"{SUBNET}.{number}" for number in range(10, 250))
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
        self.sockets = Path(tempfile.mkdtemp(prefix="lab-"))  # of SSH, whose paths have to be short
        self.key = directory / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        script = f"ip link set lo up; ip link add switch type bridge; ip address add {SUBNET}.1/24 dev switch"
        script += "; ip link set switch up; echo up; exec sleep infinity"
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True
        )
        self._tie = tie_to_this_process(self._holder.pid)
        if self._holder.stdout.readline() != b"up\n":
            raise HostError("the hosts' network could not be made")

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *exception: object) -> None:
        self.destroy()

    @property
    def here(self) -> list[str]:
        """Words before a command that run it at the controller: in its network, on the machine's file system."""
        return ["nsenter", "--net", f"--target={self._holder.pid}", "--"]

    def way_in(self) -> Path:
        """A program that connects its input and output with the address and port that it is given in this network."""
        script = self.directory / "way-in"
        if not script.exists():
            relay = 'exec 3<> "/dev/tcp/$1/$2" || exit; cat <&3 & cat >&3; wait'
            script.write_text(f'#!/bin/sh\nexec {shlex.join(self.here)} bash -c \'{relay}\' _ "$1" "$2"\n')
            script.chmod(0o755)
        return script

    def host(self, name: str, root: Path) -> Host:
        """A running host of this name with its own copy of a root file system."""
        made = Host(self, name, next(self._addresses), root)
        self.hosts.append(made)
        made.boot()
        return made

    def connect(self, port: str, pid: int) -> None:
        """Plug the network of process ``pid`` into the switch."""
        add = ["ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(pid)]
        for command in (add, ["ip", "link", "set", port, "master", "switch", "up"]):
            subprocess.run([*self.here, *command], check=True, capture_output=True)

    def disconnect(self, port: str) -> None:
        """Pull the plug, which takes the kernel its time when a network has ended, and forget connections."""
        for socket in self.sockets.iterdir():
            socket.unlink(missing_ok=True)
        subprocess.run([*self.here, "ip", "link", "delete", port], check=False, capture_output=True)

    def destroy(self) -> None:
        """End all hosts and forget what they wrote."""
        for host in self.hosts:
            host.power_off()
        for process in (self._tie, self._holder):
            process.kill()
            process.wait()
        self._tie.stdin.close()
        self._holder.stdout.close()
        shutil.rmtree(self.sockets, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)


class Host:
    """A Debian host with sshd and the PostgreSQL clusters that are on its file system."""

    def __init__(self, network: Network, name: str, address: str, root: Path) -> None:
        self.network = network
        self.name = name
        self.address = address
        self.root = root
        self.state = network.directory / f"{name}-{address}"
        self._process: subprocess.Popen | None = None
        self._tie: subprocess.Popen | None = None
        self._tunnels: list[subprocess.Popen] = []

    def boot(self, timeout: float = 30) -> None:
        """Start the host, and wait until sshd answers and its clusters run."""
        for name in ("root", "upper", "work"):
            (self.state / name).mkdir(parents=True, exist_ok=True)
        console = self.state / "console"
        namespaces = ["--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child"]
        script = [HOST_SCRIPT, self.name, self.address, self.root, self.state, f"{self.network.key}.pub"]
        with console.open("wb") as output:
            self._process = subprocess.Popen(
                ["unshare", *namespaces, "--", *script],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._tie = tie_to_this_process(self._process.pid)
        deadline = time.monotonic() + timeout
        ours = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self._process.pid}/ns/net") == ours:
            time.sleep(0.005)
        self.network.connect(self._port, self._process.pid)
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise HostError(f"host {self.name} does not boot:\n{console.read_text(errors='replace')}")
            time.sleep(0.05)

    @property
    def _port(self) -> str:
        return f"port-{self.address.rpartition('.')[2]}"

    def _is_up(self) -> bool:
        """The first process of the host sleeps as soon as everything else runs."""
        first = _children(self._process.pid)
        with contextlib.suppress(OSError):
            return any(Path(f"/proc/{pid}/comm").read_text() == "sleep\n" for one in first for pid in _children(one))
        return False

    @property
    def _first(self) -> str:
        """The process id, seen from outside, of the host's first process."""
        return _children(self._process.pid)[0]

    def power_off(self) -> None:
        """A power cut: every process of the host is gone, its files stay for the next boot."""
        if self._process:
            self._tie.kill()
            self._tie.wait()
            self._tie.stdin.close()
            self._process.kill()
            self._process.wait()
            self._process = None
            for tunnel in self._tunnels:
                tunnel.kill()
                tunnel.wait()
                tunnel.stdout.close()
            self._tunnels.clear()
            self.network.disconnect(self._port)

    def destroy(self) -> None:
        """Power off, and forget what the host wrote."""
        self.power_off()
        shutil.rmtree(self.state, ignore_errors=True)

    def inside(self) -> list[str]:
        """Words before a command that run it on the host, as root."""
        names = ["--mount", "--pid", "--net", "--uts", "--ipc", "--root", "--wd"]
        return ["nsenter", f"--target={self._first}", *names, "--"]

    def run(self, *command: str | Path, user: str = "root", stdin: str = "", check: bool = True) -> str:
        """What a command on the host printed, standard error included. Raises HostError when it fails, if ``check``."""
        become = [] if user == "root" else ["runuser", "-u", user, "--"]
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        done = subprocess.run(
            [*self.inside(), "env", "-i", path, "LANG=C.UTF-8", *become, *map(str, command)],
            input=stdin,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
            check=False,
        )
        if check and done.returncode:
            raise HostError(f"{self.name}: {' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def path(self, path: str) -> Path:
        """A file of the host, as this process sees it."""
        return Path(f"/proc/{self._first}/root") / path.lstrip("/")

    def psql(self, query: str, dbname: str = "postgres", port: int = 5432) -> str:
        """What psql prints for a query, as the superuser, through the socket: fields separated by ``|``."""
        words = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-p", str(port), "-d", dbname, "-f", "-"]
        return self.run(*words, user="postgres", stdin=query).strip()

    def tunnel(self, port: int, from_machine: bool = False) -> int:
        """A port of the controller's loopback, or of this machine's, that leads over SSH to a port of the host's, while
        the host is up.
        """
        here = free_port() if from_machine else 20000 + int(self.address.rpartition(".")[2])
        reach = self.ansible(from_machine)
        words = ["-i", reach["ansible_ssh_private_key_file"], *shlex.split(reach["ansible_ssh_common_args"])]
        forward = ["-N", "-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{here}:127.0.0.1:{port}"]
        report = [
            "-o",
            "PermitLocalCommand=yes",
            "-o",
            "LocalCommand=echo up",
            "-o",
            "ServerAliveInterval=10",
            "-o",
            "ConnectionAttempts=20",
        ]
        command = [
            *([] if from_machine else self.network.here),
            "ssh",
            *words,
            *forward,
            *report,
            f"{ADMIN}@{self.address}",
        ]
        tunnel = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self._tunnels.append(tunnel)
        if tunnel.stdout.readline() != b"up\n":
            raise HostError(f"{self.name} cannot be reached over SSH")
        return here

    def ansible(self, from_machine: bool = False) -> Mapping[str, Any]:
        """How Ansible at the controller, or on this machine outside of its network, reaches the host."""
        options = "-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        if from_machine:
            options += f" -o ProxyCommand='{self.network.way_in()} %h %p'"
        return {
            "ansible_connection": "ssh",
            "ansible_host": self.address,
            "ansible_user": ADMIN,
            "ansible_ssh_private_key_file": str(self.network.key),
            "ansible_ssh_common_args": options,
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_control_path_dir": str(self.network.sockets),
        }


def _children(pid: int | str) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
