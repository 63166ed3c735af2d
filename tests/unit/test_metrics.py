# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of migrations as metrics, as Prometheus' own library reads them."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path

import yaml
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as exposition_format

from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring.metrics import (
    LOOKED,
    METRICS,
    as_openmetrics,
)

RULES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "prometheus.rules.yml"
STATUS = {
    "database": 'sh"op\\a\nb', "phase": "in_step", "tables": {"indexed": 41, "waiting": 0}, "drift": None,
    "bytes": {"copied": 108_000_000_001, "total": 108_000_000_001}, "eta_seconds": None, "age_seconds": 10800.5,
    "lag": {"seconds": 0.25, "bytes": 0}, "wal": {"retained_bytes": 1258291}, "errors": [{"kind": "slot"}],
    "problems": [], "verified": {"verdict": "equal", "at": "2026-11-20T20:00:00+00:00", "outdated": None},
}  # fmt: skip
GUARDS = [{"guard": "lag", "level": "warning"}, {"guard": "age", "level": "not_watched"}]
SEEN = {"databases": [{"status": STATUS, "guards": GUARDS}, {**STATUS, "database": "none", "phase": "none"}]}


def read(text, parse):
    return {(one.name, *sorted(one.labels.items())): one.value for family in parse(text) for one in family.samples}


def test_metrics_are_what_prometheus_reads():
    text = as_openmetrics(SEEN, "pair 1", now=1795970000.5)
    found = read(text, openmetrics.text_string_to_metric_families)
    assert found == read(text, exposition_format), "node_exporter reads the older format"
    of_it = ("database", STATUS["database"]), ("pair", "pair 1")
    assert found[("handover_looked_timestamp_seconds", ("pair", "pair 1"))] == 1795970000
    assert found[("handover_lag_seconds", *of_it)] == 0.25
    assert found[("handover_copied_bytes", *of_it)] == 108_000_000_001
    assert found[("handover_retained_wal_bytes", *of_it)] == 1258291
    assert (
        found[("handover_verified_timestamp_seconds", *of_it)]
        == datetime(2026, 11, 20, 20, tzinfo=timezone.utc).timestamp()
    )
    phases = {dict(key[1:])["phase"]: value for key, value in found.items() if key[0] == "handover_phase"}
    assert [phase for phase, value in phases.items() if value] == ["in_step"] and len(phases) == 5
    guards = {dict(key[1:])["guard"]: value for key, value in found.items() if key[0] == "handover_guard_level"}
    assert guards == {"lag": 1}
    kinds = {dict(key[1:])["kind"]: value for key, value in found.items() if key[0] == "handover_findings"}
    assert kinds == {"errors": 1, "problems": 0}, "drift is unknown"
    assert not [key for key in found if key[0] == "handover_eta_seconds"]
    assert {dict(key[1:]).get("database") for key in found} == {STATUS["database"], None}, "no migration, no samples"


def test_rules_ask_for_what_there_is():
    names = {one.name for one in (*METRICS, LOOKED)}
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    asked = {name for rule in rules for name in re.findall(r"\bhandover_\w+", rule["expr"])}
    assert asked and asked <= names
