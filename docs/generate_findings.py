"""Writes docs/findings.md from the checks themselves.

After a check was added or changed: ``.build/venv/bin/python docs/generate_findings.py``
"""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "findings.md"
HEAD = """# Findings of the preflight

Every check gives at least one finding: `blocker`, `warning`, `unknown`, `info` or `ok`; [the guide](preflight.md) says
what they mean. One more id, `waivers`, is for waivers that match nothing.

This page is made from the code by `docs/generate_findings.py`; a test keeps it so.

| id | what `ok` says | looks at | concerns | why |
|---|---|---|---|---|
"""


def page() -> str:
    """The page as it ought to be."""
    from ansible_collections.handover.postgresql.plugins.module_utils.methods import preflight

    lines = []
    for check in sorted(preflight.CHECKS, key=lambda check: check.id):
        place = "each database" if check.per_database else "the servers"
        place += ", with a target" if check.needs_target else ""
        why = " ".join(inspect.getdoc(check.function).split()).replace("|", "\\|")
        lines.append(f"| `{check.id}` | {check.title} | {place} | {', '.join(check.methods)} | {why} |\n")
    return HEAD + "".join(lines)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "helpers")]
    importlib.import_module("conftest")  # makes the checkout importable as the collection that it is
    PAGE.write_text(page(), encoding="utf-8")
