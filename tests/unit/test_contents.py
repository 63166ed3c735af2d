# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of contents of archives: toc/MAJOR-ENCODING.dat are those of one small database, by pg_dump of each major.

The database has a schema "Größe & Maß" with a table "Tabelle; mit<line break>Zeilen" of a serial id and a column of
type citext, a table that refers to it, a view upon both with a comment and a grant, a materialized view upon the
view, an index, a trigger with its function, and a large object.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents

TOCS = sorted((Path(__file__).parent / "toc").glob("*.dat"))
UTF8 = [path for path in TOCS if "utf8" in path.name]
TABLE = "Größe & Maß.Tabelle; mit\nZeilen"


def read(path: Path) -> Contents:
    return Contents.parse(path.read_bytes())


def find(contents: Contents, name: str):
    [entry] = [entry for entry in contents.entries if entry.name == name]
    return entry


@pytest.mark.parametrize("path", TOCS, ids=lambda path: path.stem)
def test_what_is_written_is_what_was_read(path):
    assert read(path).to_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", [path for path in TOCS if "ascii" not in path.name], ids=lambda path: path.stem)
def test_names_are_text_in_every_encoding(path):
    table = find(read(path), f"TABLE {TABLE}")
    assert (table.namespace, table.tag, table.owner) == ("Größe & Maß", "Tabelle; mit\nZeilen", "postgres")
    assert table.section == "pre-data"
    assert 'CREATE TABLE "Größe & Maß"."Tabelle; mit\nZeilen" (' in table.definition


@pytest.mark.parametrize("path", [path for path in TOCS if "ascii" in path.name], ids=lambda path: path.stem)
def test_bytes_of_an_unknown_encoding_survive_an_edit(path):
    contents = read(path)
    index = next(i for i, entry in enumerate(contents.entries) if entry.desc == "VIEW")
    contents.entries[index] = replace(contents.entries[index], owner="somebody")
    edited = Contents.parse(contents.to_bytes())
    assert edited.entries[index].owner == "somebody"
    assert "Größe & Maß".encode("latin-1") in edited.to_bytes()
    assert [e for i, e in enumerate(edited.entries) if i != index] == [
        e for i, e in enumerate(read(path).entries) if i != index
    ]


@pytest.mark.parametrize("path", UTF8, ids=lambda path: path.stem)
def test_an_edit_may_change_the_length_of_every_text(path):
    contents = read(path)
    [encoding] = [entry for entry in contents.entries if entry.desc == "ENCODING"]
    definition = "SELECT '☕';\n" * 100
    contents.entries = [encoding] + [
        replace(entry, definition=definition, owner=None, dependencies=[*entry.dependencies, 70000])
        for entry in contents.entries
        if entry.desc != "ENCODING"
    ]
    again = Contents.parse(contents.to_bytes())
    assert again.entries == contents.entries
    assert again.header == contents.header


@pytest.mark.parametrize("path", UTF8, ids=lambda path: path.stem)
def test_sections_and_data(path):
    contents = read(path)
    data = find(contents, f"TABLE DATA {TABLE}")
    assert (data.section, data.filename) == ("data", f"{data.dump_id}.dat")
    assert find(contents, "INDEX public.plain_n").section == "post-data"
    assert find(contents, 'COMMENT public.VIEW "v"').section == "none"
    assert {entry.section for entry in contents.entries} == {"pre-data", "data", "post-data", "none"}
    assert len({entry.dump_id for entry in contents.entries}) == len(contents.entries)


@pytest.mark.parametrize("path", UTF8, ids=lambda path: path.stem)
def test_dependents_are_all_that_needs_an_entry(path):
    contents = read(path)
    places = {entry.dump_id: place for place, entry in enumerate(contents.entries)}

    def dependents(*names):
        found = contents.dependents({find(contents, name).dump_id for name in names})
        assert [places[entry.dump_id] for entry in found] == sorted(places[entry.dump_id] for entry in found)
        return {entry.name for entry in found}

    upon_the_view = {
        "MATERIALIZED VIEW public.mv",
        "MATERIALIZED VIEW DATA public.mv",
        'ACL public.TABLE "v"',
        'COMMENT public.VIEW "v"',
    }
    assert dependents("VIEW public.v") == upon_the_view
    upon_citext = dependents("EXTENSION citext")
    assert upon_citext >= {*upon_the_view, f"TABLE {TABLE}", f"TABLE DATA {TABLE}", "VIEW public.v"}
    assert {"FK CONSTRAINT public.plain plain_id_fkey", 'COMMENT EXTENSION "citext"'} <= upon_citext
    assert "TABLE public.plain" not in upon_citext
    assert dependents("FUNCTION public.f()", "INDEX public.plain_n") == {"TRIGGER public.plain t"}
    assert dependents("TRIGGER public.plain t") == set()
    assert contents.dependents(set()) == []


@pytest.mark.parametrize("path", [TOCS[0], TOCS[-1]], ids=lambda path: path.stem)
def test_a_damaged_archive_is_never_taken_for_a_whole_one(path):
    data = path.read_bytes()
    for length in (*range(0, len(data), 7), len(data) - 1):
        with pytest.raises(HandoverError, match=r"damaged|not an archive"):
            Contents.parse(data[:length])


@pytest.mark.parametrize(("place", "byte"), [(0, b"X"), (5, b"\2"), (6, b"\15"), (6, b"\21")])
def test_other_versions_are_refused(place, byte):
    data = bytearray(TOCS[-1].read_bytes())
    data[place : place + 1] = byte
    with pytest.raises(HandoverError, match="not an archive of a version that is known here"):
        Contents.parse(bytes(data))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(HandoverError, match=r"toc\.dat is missing"):
        Contents.read(str(tmp_path))
