# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text for a terminal and for Markdown, from names that may hold anything."""

from __future__ import annotations

import re
import textwrap


def printable(text: str) -> str:
    """Names may hold anything, also what a terminal would obey."""
    return "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)


def on_one_line(text: str) -> str:
    """The same without line breaks."""
    return printable(text.replace("\n", "\\n"))


def heading(text: str, line: str) -> list[str]:
    """A line, underlined."""
    text = on_one_line(text)
    return [text, line * len(text)]


def wrap(text: str, width: int, indent: str = "", first: str = "") -> list[str]:
    """Lines that are about ``width`` columns wide; words that are longer are not broken."""
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def grid(head: list[str], rows: list[list[str]]) -> list[str]:
    """A table in Markdown, or nothing for no rows; the cells are escaped already."""
    if not rows:
        return []
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines] + [""]


def escaped(text: str) -> str:
    """Text that Markdown shows as it is; underscores within words do no harm."""
    text = re.sub(r"([\\`*\[\]<>|#~])", r"\\\1", on_one_line(text))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def code(text: str) -> str:
    """A code span, also of text with backticks; a bar would end the cell."""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|")


# --- Markdown for a terminal -----------------------------------------------------------------------------------------

ITEM = re.compile(r"( *)(-|\d+[.]) (.*)")
FENCE = "```"


def plain_text(markdown: str, width: int) -> str:
    """Markdown as the reports have it, set for a terminal: what ``grid``, headings, lists and fences are made of."""
    lines: list[str] = []
    table: list[str] = []
    fenced = False
    for line in markdown.split("\n"):
        if table and not line.startswith("|"):
            lines += _columns(table)
            table = []
        if line.strip() == FENCE:
            fenced = not fenced
        elif fenced:
            lines.append(line)
        elif line.startswith("|"):
            table.append(line)
        else:
            lines += _set(line, width)
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines + _columns(table)))
    return text.strip("\n") + "\n"


def _set(line: str, width: int) -> list[str]:
    """A heading, an item of a list, or a paragraph, which is one line in Markdown."""
    marks, _space, title = line.partition(" ")
    if marks in ("#", "##"):
        return heading(_bare(title), "=" if marks == "#" else "-")
    item = ITEM.fullmatch(line)
    if item:
        first = f"{item[1]}{item[2]} "
        return wrap(_bare(item[3]), width, " " * len(first), first)
    return wrap(_bare(line), width) or [""]


def _bare(text: str) -> str:
    """Without code spans and emphasis; a backtick or an asterisk of a name stays."""
    text = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"\1", text)
    return re.sub(r"\*\*([^*]+)\*\*", r"\1", text)


def _columns(table: list[str]) -> list[str]:
    """A table of Markdown in columns, numbers to the right."""
    cells = [[_bare(cell.strip()) for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in table]
    if not cells:
        return []
    head, rule, *rows = cells
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    lines = []
    for row in [head, ["-" * wide for wide in widths], *rows]:
        placed = [
            cell.rjust(wide) if mark.endswith(":") else cell.ljust(wide) for cell, wide, mark in zip(row, widths, rule)
        ]
        lines.append("  ".join(placed).rstrip())
    return lines
