# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets masked in what is shown, and nothing else that happens to be spelled like one.

Ansible replaces each secret wherever its letters occur in a result. With the password ``shop``, that spoils the name of
the database ``shop`` and all that is decided by it; with ``a`` nearly everything. Results of ours are made of names,
numbers and words of our own, among which no secret gets, so here they stay as they are. Masked is what may hold one
as somebody else wrote it: text behind the word password or in a URI, anywhere; and in messages any secret that is long
enough to be told from a word, unless what is no message has it too: then it is a name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any
from urllib.parse import quote

MASK = "********"
LONG = 8  # characters from which on a secret is masked wherever a message has it
MESSAGES = {"msg", "problem", "problems", "remedy", "exception", "notices", "reason", "detail", "not_narrowed"}


def masked(text: str, secrets: Iterable[str]) -> str:
    """A text of others, such as an error of libpq, without secrets."""
    for secret in secrets:
        text = _spelled(secret).sub(MASK, _credential(secret).sub(rf"\g<before>{MASK}", text))
    return text


def sealed(result: dict[str, Any], secrets: Iterable[str], given: dict[str, Any]) -> dict[str, Any]:
    """A module's result without secrets; ``given`` are its parameters without those that are secrets."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        spelled = _spelled(secret)
        result = _replaced(result, partial(_without_credential, _credential(secret)))
        messages = [text for text, key in _texts(result) if key in MESSAGES]
        if not any(spelled.search(text) for text in messages):
            continue
        words = [text for text, key in [*_texts(given), *_texts(result)] if key not in MESSAGES]
        if not any(secret in word for word in words):
            result = _replaced(result, partial(_without_word, spelled))
    return result


def _without_credential(credential: re.Pattern[str], text: str, _key: str | None) -> str:
    return credential.sub(rf"\g<before>{MASK}", text)


def _without_word(spelled: re.Pattern[str], text: str, key: str | None) -> str:
    return spelled.sub(MASK, text) if key in MESSAGES else text


def _spellings(secret: str) -> str:
    """A pattern of how a secret may be written: as it is, in a URI, in connection strings, in SQL, in JSON."""
    conninfo = secret.replace("\\", "\\\\").replace("'", "\\'")
    spelled = {secret, conninfo, quote(secret, safe=""), quote(secret)}
    spelled |= {one.replace("'", "''") for one in spelled}
    spelled |= {one.replace("\\", "\\\\") for one in spelled}
    spelled |= {json.dumps(one)[1:-1] for one in spelled} | {
        json.dumps(one, ensure_ascii=False)[1:-1] for one in spelled
    }
    return "|".join(re.escape(one) for one in sorted(spelled, key=lambda one: (-len(one), one)))


def _credential(secret: str) -> re.Pattern[str]:
    """The secret where it can only be one: ``password=...``, ``PASSWORD '...'``, ``"password": "..."``, ``://user:...@``."""
    keyword = r"(?i:pass(?:word|wd|phrase)?)(?:\\*[\"'])?\s*(?:[=:]\s*(?:E?\\*[\"']+)?|\sE?\\*')"
    return re.compile(
        rf"(?P<before>{keyword}|://[^\s/@:]*:)(?:{_spellings(secret)})(?=$|[\s\"'\\,;&@)\]}}])", re.MULTILINE
    )


def _spelled(secret: str) -> re.Pattern[str]:
    """The secret as a word, if it is long enough to be told from others; else what matches nothing."""
    return re.compile(rf"(?<!\w)(?:{_spellings(secret)})(?!\w)" if len(secret) >= LONG else r"(?!)")


def _texts(value: Any, key: str | None = None) -> Iterator[tuple[str, str | None]]:
    """(text, the nearest key above it) of all strings in a structure."""
    if isinstance(value, str):
        yield value, key
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _texts(one, name)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _texts(one, key)


def _replaced(value: Any, replace: Callable[[str, str | None], str], key: str | None = None) -> Any:
    """The structure with ``replace(text, the nearest key above it)`` for each string."""
    if isinstance(value, str):
        return replace(value, key)
    if isinstance(value, dict):
        return {name: _replaced(one, replace, name) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replaced(one, replace, key) for one in value]
    return value
