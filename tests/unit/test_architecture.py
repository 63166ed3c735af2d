# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The floors and rules of docs/architecture.md, read from the source text."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
UTILS = "ansible_collections.handover.postgresql.plugins.module_utils"
FLOORS = ["base", "facts", "parts", "methods"]
# Packages of parts: each imports those before it.
PARTS = [
    "trust", "journals", "roles", "databases", "archive", "copying", "replication", "fencing", "verification",
    "monitoring", "migration", "following", "poolers", "source", "preflight",
]  # fmt: skip
FILE_LINES = 400
FUNCTION_LINES = 60
LICENSE = "# SPDX-License-Identifier: GPL-3.0-or-later\n"


def sources(*folders: str) -> list[str]:
    """Python files below the folders, as paths from the root."""
    return sorted(
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if path.stat().st_size and "output" not in path.parts
    )


def tree(name: str) -> ast.Module:
    """A file, parsed."""
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), name)


def imported(name: str) -> set[str]:
    """Dotted names of what a file imports, also inside functions: ``from a import b`` counts as ``a.b``."""
    names = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}:{node.lineno}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def floors_used(name: str) -> set[str]:
    """Floors that a file imports from."""
    return {found[len(UTILS) + 1 :].split(".")[0] for found in imported(name) if found.startswith(UTILS + ".")}


def parts_used(name: str) -> set[str]:
    """Packages of parts that a file imports from."""
    of_parts = f"{UTILS}.parts."
    return {found[len(of_parts) :].split(".")[0] for found in imported(name) if found.startswith(of_parts)}


def code_lines(node: ast.AST) -> int:
    """Lines that a file or function covers, less those of strings over several lines: SQL and documentation."""
    lines = {
        line for part in ast.walk(node) if hasattr(part, "lineno") for line in range(part.lineno, part.end_lineno + 1)
    }
    for part in ast.walk(node):
        if isinstance(part, (ast.Constant, ast.JoinedStr)):
            lines -= set(range(part.lineno + 1, part.end_lineno + 1))
    return len(lines)


def functions(name: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file."""
    return [node for node in ast.walk(tree(name)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def undocumented(name: str) -> list[str]:
    """Public functions and classes of a file that have no docstring."""
    return [
        node.name
        for node in tree(name).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and node.name != "main"
        and not ast.get_docstring(node)
    ]


def test_module_utils_is_floors_and_nothing_else():
    stray = [path.name for path in (PLUGINS / "module_utils").iterdir() if path.name not in [*FLOORS, "__pycache__"]]
    assert not stray


@pytest.mark.parametrize("name", sources("plugins/module_utils"))
def test_floor_imports_only_its_own_and_those_below(name):
    floor = FLOORS.index(Path(name).parts[2])
    assert floors_used(name) <= set(FLOORS[: floor + 1])


def test_parts_is_packages_and_nothing_else():
    found = {path.name for path in (PLUGINS / "module_utils" / "parts").iterdir() if path.name != "__pycache__"}
    assert found == {*PARTS, "__init__.py"}


@pytest.mark.parametrize("name", sources("plugins/module_utils/parts"))
def test_packages_of_parts_import_only_those_before_them(name):
    assert parts_used(name) <= set(PARTS[: PARTS.index(Path(name).parts[3]) + 1])


@pytest.mark.parametrize("name", sources("plugins"))
def test_only_the_preflight_imports_its_checks(name):
    callers = "plugins/module_utils/methods/preflight.py", "plugins/module_utils/methods/rehearsal/", "plugins/filter/"
    if not name.startswith(callers) and "parts/preflight" not in name:
        assert "preflight" not in parts_used(name)


def test_class_names_mean_one_thing():
    names = Counter(
        node.name
        for name in sources("plugins/module_utils")
        for node in tree(name).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert not {name for name, count in names.items() if count > 1}


def test_file_names_mean_one_thing():
    names = Counter(Path(name).stem for name in sources("plugins/module_utils"))
    assert not {name for name, count in names.items() if count > 1}


@pytest.mark.parametrize("name", sources("plugins/modules", "plugins/action"))
def test_modules_call_one_floor(name):
    assert floors_used(name) <= {"base", "methods"}


@pytest.mark.parametrize("name", sources("plugins"))
def test_plugins_import_nothing_of_the_lab_or_of_tests(name):
    assert not {found.split(".")[0] for found in imported(name)} & {"lab", "tests", "pytest"}


@pytest.mark.parametrize("name", sources("plugins/module_utils"))
def test_psycopg2_is_imported_in_one_place(name):
    if name != "plugins/module_utils/base/endpoint.py":
        assert not {found for found in imported(name) if found.split(".")[0] == "psycopg2"}


@pytest.mark.parametrize("name", sources("plugins/module_utils"))
def test_only_the_frame_of_modules_ends_them(name):
    calls = {node.attr for node in ast.walk(tree(name)) if isinstance(node, ast.Attribute)}
    if name != "plugins/module_utils/base/frame.py":
        assert not calls & {"exit_json", "fail_json"}


@pytest.mark.parametrize("name", sources("plugins"))
def test_types_of_python_3_10_are_in_annotations_only(name):
    nodes = list(ast.walk(tree(name)))
    hints = [getattr(node, part, None) for node in nodes for part in ("annotation", "returns")]
    not_run = {id(part) for hint in hints if hint for part in ast.walk(hint)}
    unions = [
        node.lineno
        for node in nodes
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and id(node) not in not_run
        if any(isinstance(side, ast.Constant) and side.value is None for side in (node.left, node.right))
    ]
    assert not unions, "Python 3.9 knows no union of types when it runs them"


@pytest.mark.parametrize("name", sources("plugins", "lab", "tests"))
def test_file_is_short_and_introduced(name):
    assert code_lines(tree(name)) <= FILE_LINES
    assert ast.get_docstring(tree(name)) or "plugins/modules/" in name


@pytest.mark.parametrize("name", sources("plugins"))
def test_file_says_its_license(name):
    assert LICENSE in (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sources("plugins", "lab", "tests"))
def test_functions_are_short(name):
    length = {node.name: code_lines(node) for node in functions(name)}
    assert not {function: lines for function, lines in length.items() if lines > FUNCTION_LINES}


@pytest.mark.parametrize("name", sources("plugins/module_utils", "lab"))
def test_public_names_are_documented(name):
    assert not undocumented(name)


def test_action_group_lists_every_module_that_talks_to_a_server():
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8"))
    modules = [Path(name).stem for name in sources("plugins/modules")]
    assert runtime["action_groups"]["pg"] == sorted(name for name in modules if name.startswith("pg_"))
