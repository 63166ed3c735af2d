# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers on loopback and the sample application, for the demo, the tests and the benchmarks.

Nothing in here is part of the built collection, and nothing in the collection knows of it.
"""
