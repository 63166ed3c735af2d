"""Definitions of different majors, compared by their words."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.spelling import words


def test_only_what_majors_write_differently_is_left_out():
    before = """SELECT ("O".id) AS id, 'a (b)' AS "some text" FROM (s."O" JOIN s.p ON (("O".id = p.id)))"""
    after = """SELECT id, 'a (b)' AS "some text" FROM s."O"\n   JOIN s.p ON "O".id = p.id"""
    assert words(before.replace(" AS id", "")) == words(after)
    for value in ("a b", "a.b", "a (c)", "a AS (b)", "it''s"):
        assert words(before) != words(before.replace("a (b)", value)), value
    assert words(None) is None
