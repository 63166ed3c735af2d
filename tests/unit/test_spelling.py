"""Definitions of different majors, compared by their words."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.spelling import same_words


def test_only_what_majors_write_differently_is_left_out():
    before = """SELECT "O".id, 'a (b)' AS "some text" FROM s."O" WHERE (("O".y OR "O".z) AND ("O".n > 1.5))"""
    after = """SELECT id, 'a (b)'   "some text"\n FROM s."O" WHERE ((y OR z) AND (n > 1.5))"""
    assert same_words(before, after) and same_words(after, before) and same_words(None, None)
    for value in ("a b", "a.b", "a (c)", "a AS (b)", "it''s"):
        assert not same_words(before, after.replace("a (b)", value)), value
    for meaning in ("""'s."O"'""", 's."P"', 't."O"', '"O".s."O"'):
        assert not same_words(before, after.replace('s."O"', meaning)), meaning
    for meaning in ("(y OR (z AND (n > 1.5)))", "((y OR z) AND (n > 2.5))", '(("P".y OR z) AND (n > 1.5))', "true"):
        assert not same_words(before, after.replace("((y OR z) AND (n > 1.5))", meaning)), meaning
    assert not same_words(before, None) and not same_words(None, after)
