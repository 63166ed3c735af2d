# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of a pair as HTML, which needs nothing else: no script, no image, no style from elsewhere."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from ansible_collections.handover.postgresql.plugins.module_utils.base import wording
from ansible_collections.handover.postgresql.plugins.plugin_utils.page import plots, sections, store

TEMPLATES = Path(__file__).parent / "templates"
LONGEST = 46  # letters of a name in a plot; its tooltip has all


def as_html(shown: store.Page) -> str:
    """The page that shows what store.merged has put together. Everything is escaped, as names may hold anything."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        size=wording.size, counted=wording.counted, span=plots.span, drawn=plots.drawn, short=short, moment=moment
    )
    data = Markup(store.written(shown))
    return environment.get_template("page.html.j2").render(page=sections.sections(shown), data=data, ends=store)


def short(name: str, most: int = LONGEST) -> str:
    """A name that fits, without its middle if it is long."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def moment(time: str | None) -> str:
    """``2026-11-29 19:51:05``, in UTC."""
    return plots.clock(plots.seconds(time)) if time else "unknown"
