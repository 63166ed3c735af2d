# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PgBouncer's configuration file: where its databases lead (PgBouncer's documentation, Config, Section [databases])."""

from __future__ import annotations

import re

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError

SECTION = re.compile(r"\s*\[(?P<name>[^\]]*)\]")
ENTRY = re.compile(r"""\s*(?P<name>"(?:[^"]|"")+"|[^\s=;#"]+)\s*=\s*(?P<rest>.*?)\s*$""")
PARAMETER = re.compile(r"(?P<name>\w+)\s*=\s*(?P<value>'(?:[^']|'')*'|\S*)")
PLACE = ("host", "port", "dbname")


def lead(text: str, entries: dict[str, dict]) -> str:
    """The file with each of ``entries`` leading elsewhere: ``{"host", "port", "dbname"}`` by name.

    An entry keeps its other parameters; one that is not there gets those of the fallback ``*``. Raises HandoverError
    for a file without a section [databases].
    """
    lines, end = text.splitlines(), None
    found, section = {}, ""
    for number, line in enumerate(lines):
        heading = SECTION.match(line)
        if heading:
            section = heading["name"].strip()
        if section == "databases":
            end = number + 1 if heading or line.strip() else end
            entry = None if heading else ENTRY.match(line)
            if entry:
                found[_plain(entry["name"])] = (number, entry["rest"])
    if end is None:
        raise HandoverError("The file has no section [databases].", "Name the file of PgBouncer that has it.")
    added = []
    for name, place in entries.items():
        number, rest = found.get(name, (None, found.get("*", (None, ""))[1]))
        line = f"{_quoted_name(name)} = {_led(rest, place, name)}"
        if number is None:
            added.append(line)
        else:
            lines[number] = line
    return "\n".join([*lines[:end], *added, *lines[end:]]) + "\n"


def _led(rest: str, place: dict, name: str) -> str:
    given = {one["name"]: one["value"] for one in PARAMETER.finditer(rest)}
    wanted = {key: str(place[key]) for key in PLACE if place.get(key) not in (None, "")}
    if "dbname" not in given and wanted.get("dbname") == name:
        del wanted["dbname"]
    given.pop("hostaddr", None)
    given.update({key: _quoted_value(value) for key, value in wanted.items()})
    ordered = sorted(given, key=lambda key: PLACE.index(key) if key in PLACE else len(PLACE))
    return " ".join(f"{key}={given[key]}" for key in ordered)


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _quoted_name(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_.-]+|\*", name) else '"' + name.replace('"', '""') + '"'


def _quoted_value(value: str) -> str:
    return value if re.fullmatch(r"[^\s'=]+", value) else "'" + value.replace("'", "''") + "'"
