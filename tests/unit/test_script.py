"""Scripts of pg_restore, cut into transactions."""

from __future__ import annotations

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive import script
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Entry

HEAD = b"--\n-- PostgreSQL database dump\n--\n\n%s-- Dumped by\n\nSET statement_timeout = 0;\nSET row_security = off;\n"


def entry(number: int, tag: str, definition: str) -> Entry:
    """A function of the archive."""
    return Entry(
        number, 0, "1255", str(number), tag, "FUNCTION", 2, definition, None, None, "s", None, None, 0, "o", "f"
    )


def written(entries: list[Entry], codec: str = "utf-8") -> bytes:
    """What pg_restore writes of them."""
    texts = [
        f"--\n-- Name: {one.tag}; Type: {one.desc}; Schema: s; Owner: o\n--\n\n{one.definition}\n\n"
        f"ALTER FUNCTION s.f OWNER TO o;\n\n"
        for one in entries
        if one.definition
    ]
    return "".join(texts).encode(codec)


@pytest.fixture(autouse=True)
def two_together(monkeypatch):
    monkeypatch.setattr(script, "TOGETHER", 2)


def test_cut_between_entries():
    entries = [entry(n, f"f{n}()", f"CREATE FUNCTION f{n}();\n") for n in range(5)]
    parts = script.transactions(written(entries), entries, "utf-8")
    assert [count for count, _text in parts] == [2, 2, 1]
    assert [text.count(b"CREATE FUNCTION") for _count, text in parts] == [2, 2, 1]
    assert b"".join(text for _count, text in parts) == written(entries)


@pytest.mark.parametrize("codec", ["utf-8", "latin-1"])
def test_definitions_that_look_like_the_beginning_of_another(codec):
    """A body that holds what pg_restore writes before an entry is not cut."""
    body = "CREATE FUNCTION ü() AS $$\n\n--\n-- Name: f2(); Type: FUNCTION; Schema: s; Owner: o\n--\n\nlater $$;\n"
    entries = [entry(0, "ü()", body), entry(1, "ü()", body.replace("later", "even later"))]
    entries += [entry(n, f"f{n}()", f"CREATE FUNCTION f{n}();\n") for n in (2, 3)]
    first, second = script.transactions(written(entries, codec), entries, codec)
    assert first == (2, written(entries[:2], codec))
    assert second == (2, written(entries[2:], codec))


def test_entry_of_which_nothing_is_written_ends_no_part():
    texts = ["CREATE FUNCTION f0();\n", "", "", "CREATE FUNCTION f3();\n", "CREATE FUNCTION f4();\n"]
    entries = [entry(n, f"f{n}()", text) for n, text in enumerate(texts)]
    parts = script.transactions(written(entries), entries, "utf-8")
    assert [(count, text.count(b"CREATE")) for count, text in parts] == [(4, 2), (1, 1)]


def test_head_and_restriction_are_taken_off():
    body = b"\nCREATE TABLE t (text text DEFAULT '\\restrict x');\n\n"
    assert script.statements_of(HEAD % b"" + body) == body
    assert script.statements_of(HEAD % b"\\restrict Key1\n\n" + body + b"\\unrestrict Key1\n\n").strip() == body.strip()
    for script_without_head in (b"", body):
        with pytest.raises(HandoverError):
            script.statements_of(script_without_head)
    with pytest.raises(HandoverError):
        script.statements_of(HEAD % b"\\restrict Key1\n\n" + body + b"\\unrestrict Key2\n\n")
