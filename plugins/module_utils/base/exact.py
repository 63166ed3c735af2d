# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dataclasses whose attributes are their fields and no others."""

from __future__ import annotations

import dataclasses


class Exact:
    """To be inherited by a dataclass that is filled in step by step: a mistyped name fails at once."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in {one.name for one in dataclasses.fields(self)}:  # type: ignore[arg-type]
            raise AttributeError(f"{type(self).__name__} has no field {name}.")
        super().__setattr__(name, value)
