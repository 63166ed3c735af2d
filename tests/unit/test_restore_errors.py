# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pg_restore writes when it goes past errors, as seen from real servers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.archive import parse_errors
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.fitting import Fitting

CONTENTS = Contents.parse((Path(__file__).parent / "toc/18-utf8.dat").read_bytes())
ENTRIES = {entry.dump_id: entry for entry in CONTENTS.entries}
FUNCTION = next(entry for entry in ENTRIES.values() if entry.desc == "FUNCTION")
EXTENSION = next(entry for entry in ENTRIES.values() if entry.desc == "EXTENSION")
COMMENT = next(entry for entry in ENTRIES.values() if entry.tag == 'VIEW "v"')


def test_an_error_belongs_to_its_entry():
    output = f"""\
pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry {EXTENSION.dump_id}; 3079 16385 EXTENSION citext
pg_restore: error: could not execute query: ERROR:  permission denied to create extension "citext"
HINT:  Must have CREATE privilege on current database to create this extension.
Command was: CREATE EXTENSION IF NOT EXISTS "citext" WITH SCHEMA "public";


pg_restore: from TOC entry {COMMENT.dump_id}; 0 0 COMMENT VIEW "v"
pg_restore: error: could not execute query: ERROR:  relation "public.v" does not exist
Command was: COMMENT ON VIEW "public"."v" IS 'one
pg_restore: two';


pg_restore: warning: errors ignored on restore: 2
"""
    errors, complete = parse_errors(output, ENTRIES, parallel=False)
    assert complete
    assert [error.entry for error in errors] == [EXTENSION, COMMENT]
    assert "permission denied" in errors[0].message
    assert errors[0].message.endswith("to create this extension.")
    assert errors[0].statement.startswith("CREATE EXTENSION IF NOT EXISTS")
    assert errors[1].describe() == (
        'COMMENT public.VIEW "v": could not execute query: ERROR:  relation "public.v" does not exist'
        """ (statement: COMMENT ON VIEW "public"."v" IS 'one)"""
    )


@pytest.mark.parametrize(
    "output",
    [
        "",
        'pg_restore: error: connection to server at "127.0.0.1", port 1 failed: Connection refused\n',
        "pg_restore: error: could not execute query: ERROR:  x\npg_restore: error: a worker process died\n",
        "pg_restore: error: could not execute query: ERROR:  x\npg_restore: warning: errors ignored on restore: 2\n",
    ],
)
def test_what_is_not_explained_is_not_complete(output):
    assert not parse_errors(output, ENTRIES, parallel=False)[1]


UNKNOWN = 'could not execute query: ERROR:  unrecognized configuration parameter "transaction_timeout"'


def test_processes_that_write_between_each_other_are_told_apart():
    """Two workers and their parent, none of whom may set what 17 and later clients set; only the parent counts."""
    output = f"""\
pg_restore: error: {UNKNOWN}
Command was: SET transaction_timeout = 0;
pg_restore: pg_restore: error: error: {UNKNOWN}
{UNKNOWN}
Command was: Command was: SET transaction_timeout = 0;SET transaction_timeout = 0;
pg_restore: error: {UNKNOWN}
Command was: SET transaction_timeout = 0;
pg_restore: warning: errors ignored on restore: 2
"""
    errors, complete = parse_errors(output, ENTRIES, parallel=True)
    assert complete
    assert len(errors) == 4
    assert Fitting(CONTENTS, []).explain(errors) == []
    missed = output.replace("restore: 2", "restore: 4")
    assert not parse_errors(missed, ENTRIES, parallel=True)[1], "an error that was not understood"


def test_an_error_of_a_worker_is_counted_twice():
    output = """\
pg_restore: error: could not execute query: ERROR:  insert or update on table "b" violates foreign key
DETAIL:  Key (i)=(7) is not present in table "a".
Command was: ALTER TABLE ONLY public.b
    ADD CONSTRAINT b_i_fkey FOREIGN KEY (i) REFERENCES public.a(i);


pg_restore: warning: errors ignored on restore: 2
"""
    [error], complete = parse_errors(output, ENTRIES, parallel=True)
    assert complete
    assert error.message.endswith('Key (i)=(7) is not present in table "a".')


def test_a_function_that_sets_transaction_timeout_is_not_passed_over():
    output = f"""\
pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry {FUNCTION.dump_id}; 1255 16400 FUNCTION f() postgres
pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter "transaction_timeout"
Command was: CREATE FUNCTION "public"."f"() RETURNS "trigger" LANGUAGE "plpgsql" SET "transaction_timeout" TO '1s'
pg_restore: warning: errors ignored on restore: 1
"""
    errors, complete = parse_errors(output, ENTRIES, parallel=False)
    assert complete
    fitting = Fitting(CONTENTS, [])
    assert fitting.explain(errors) == []
    assert {entry["object"] for entry in fitting.skipped} >= {FUNCTION.name}
    assert "transaction_timeout" in fitting.skipped[0]["reason"]


def test_what_a_worker_complains_of_is_known_by_its_statement():
    """The other worker ends an item meanwhile, and its label went before the text."""
    definition = "ALTER TABLE ONLY public.b\n    ADD CONSTRAINT b_i_fkey FOREIGN KEY (i) REFERENCES public.a(i);\n"
    entries = {
        number: replace(FUNCTION, dump_id=number, definition=text) for number, text in enumerate((definition, "b;"))
    }
    output = f"""\
pg_restore: error: could not execute query: ERROR:  insert or update on table "b" violates foreign key
pg_restore: Command was: {definition}
finished item 7 INDEX i
pg_restore: warning: errors ignored on restore: 2
"""
    [error], _complete = parse_errors(output, entries, parallel=True)
    assert (error.entry, error.statement.split()[-1]) == (entries[0], "public.a(i);")
    [unknown], _complete = parse_errors(output.replace("b_i_fkey", "other"), entries, parallel=True)
    assert unknown.entry is None
