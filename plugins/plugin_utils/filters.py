# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What filters have in common."""

from __future__ import annotations

import functools

from ansible.errors import AnsibleFilterError

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError


def as_filter(function):
    """The function as a filter: a HandoverError becomes an AnsibleFilterError with the remedy."""

    @functools.wraps(function)
    def filtered(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except HandoverError as error:
            raise AnsibleFilterError(error.as_result()["msg"]) from error

    return filtered


def rendered(rendering, data: dict, title: str, form: str, width: int) -> str:
    """``data`` as the module ``rendering`` has it in a form. Raises AnsibleFilterError for one that it has not."""
    if form == "text":
        return rendering.as_text(data, title, int(width))
    if form == "markdown":
        return rendering.as_markdown(data, title)
    raise AnsibleFilterError(f"The forms are text and markdown, not {form}.")
