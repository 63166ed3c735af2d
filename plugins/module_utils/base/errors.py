# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception that crosses floors: a problem, and what to do about it."""

from __future__ import annotations

from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import sentence


class HandoverError(Exception):
    """What went wrong, for a person under stress.

    ``problem`` says what was seen, with names; ``remedy`` says what to do, as exactly as is known;
    ``facts`` are JSON types that the module adds to its result; ``said`` is what a server that could not be reached,
    or libpq, said, to be looked at and not to be shown.
    """

    def __init__(self, problem: str, remedy: str = "", **facts: Any) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
        self.facts = facts
        self.said = ""

    def as_result(self) -> dict[str, Any]:
        """The arguments of ``fail_json``."""
        message = f"{sentence(self.problem)} {self.remedy}" if self.remedy else self.problem
        return {"msg": message, "problem": self.problem, "remedy": self.remedy, **self.facts}

    def of_database(self, dbname: str) -> HandoverError:
        """The same of one database among several, by the name that the user knows."""
        return type(self)(f'Database "{dbname}": {self.problem}', self.remedy, database=dbname, **self.facts)

    def beside(self, other: HandoverError) -> HandoverError:
        """The same, which was not all that went wrong."""
        self.problem += f" {other.problem}"
        self.remedy += f" {other.remedy}"
        return self


class IncompleteError(HandoverError):
    """All rows of a database are there, but not all definitions: ``failures`` among the facts. Others may go on."""
