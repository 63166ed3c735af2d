# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: sample databases are handed over from PostgreSQL 16 to 18, both on this machine.

The playbooks are the collection's own, run as anybody runs them. What they brought over is then looked at with
lab.compare, which knows nothing of them. The servers stay up afterwards; `make demo-clean` stops them and removes
everything.
"""
