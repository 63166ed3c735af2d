# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JMESPath, as far as it is there."""

from __future__ import annotations

from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError

try:
    import jmespath
except ImportError:
    jmespath = None


def compiled(expression: str) -> Any:
    """The expression, checked. Raises HandoverError where it is wrong, or the library is missing."""
    if jmespath is None:
        raise HandoverError(
            "The Python library jmespath is missing on the host that evaluates the query.",
            "Install it for the Python interpreter in use there: pip install jmespath.",
        )
    try:
        return jmespath.compile(expression)
    except jmespath.exceptions.JMESPathError as error:
        raise HandoverError(f"This is not a JMESPath expression: {expression} ({error}).", "Correct it.") from None


def search(expression: str, data: Any) -> Any:
    """What the expression yields on data. Raises HandoverError where it does not fit."""
    query = compiled(expression)
    try:
        return query.search(data)
    except jmespath.exceptions.JMESPathError as error:
        raise HandoverError(f"The expression {expression} does not fit the report: {error}.", "Correct it.") from None
