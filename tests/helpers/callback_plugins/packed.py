# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what Ansible packs of a module to send it, so that runs of playbooks do not each pack the same anew.

Ansible does the packing, and looks for what is packed already where it keeps it for the tasks of one run. What is kept
for other runs stands in the directory HANDOVER_TEST_PACKED, whose name tells all sources that went into it.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from ansible import constants
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: packed
type: aggregate
short_description: Keep packed modules for other runs
description: [Keeps packed modules for other runs.]
"""
# Of Ansible and of the collection, and nothing that stands beside a playbook.
SHARED = re.compile(r"(ansible\.modules|ansible_collections\.handover\.postgresql\.plugins\.modules)\.\w+-\w+(-none)?")


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "packed"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.kept = Path(os.environ["HANDOVER_TEST_PACKED"])
        self.own = Path(constants.DEFAULT_LOCAL_TMP) / "ansiballz_cache"
        self.kept.mkdir(parents=True, exist_ok=True)
        self.own.mkdir(exist_ok=True)
        for path in self.kept.iterdir():
            if SHARED.fullmatch(path.name):
                (self.own / path.name).symlink_to(path)

    def v2_playbook_on_stats(self, stats) -> None:
        for path in self.own.iterdir():
            if SHARED.fullmatch(path.name) and not path.is_symlink():
                new = self.kept / f"{path.name}.{os.getpid()}"
                shutil.copyfile(path, new)
                new.rename(self.kept / path.name)
