# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What filters say of what they cannot do."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.handover.postgresql.plugins.filter.lead_pooler import lead_pooler
from ansible_collections.handover.postgresql.plugins.filter.render_report import render_report
from ansible_collections.handover.postgresql.plugins.filter.render_status import render_status


def test_the_remedy_is_said():
    with pytest.raises(AnsibleFilterError, match=r"no section \[databases\]\. Name the file"):
        lead_pooler("[pgbouncer]\n", {"shop": {"host": "db.example.com"}})


@pytest.mark.parametrize("render", [render_report, render_status])
def test_an_unknown_form_is_refused(render):
    with pytest.raises(AnsibleFilterError, match="not html"):
        render({}, form="html")
