"""Print the shape of the package: `make shape`, or `python tests/support/shape.py TREE` for another checkout.

Modules are counted without tests. A helper is a function whose name begins with one underscore; one that is used once
is named exactly twice in its file.
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections import Counter, defaultdict
from pathlib import Path

LEFT_OUT = {"tests", ".venv", "build", "docs", ".git", ".ci", "runs_out", "studies_out"}
TERM_KINDS = re.compile(r"\b(PotentialTerm|EventTerm|LearnedTerm|is_potential)\b|kind == \"(potential|event|learned)\"")


def main(root: Path) -> None:
    paths = [path for path in root.rglob("*.py") if not LEFT_OUT & set(path.relative_to(root).parts)]
    sources = {path.relative_to(root): path.read_text(encoding="utf-8") for path in paths}
    trees = {path: ast.parse(source) for path, source in sources.items()}
    lines = sum(source.count("\n") for source in sources.values())
    comments = sum(line.strip().startswith("#") for source in sources.values() for line in source.splitlines())
    lengths, used_once = functions(sources, trees)
    importers = imported_by(trees)
    untyped = sum(len(re.findall(r"dict\[str, Any\]|\bRow\b|\bJson\b", source)) for source in sources.values())
    kinds = sorted(str(path) for path, source in sources.items() if TERM_KINDS.search(source))

    figures = {
        "modules": len(sources),
        "lines": lines,
        "lines of code (no docstring, comment or blank line)": lines_of_code(sources, trees),
        "modules imported by exactly one other": sum(len(who) == 1 for who in importers.values()),
        "functions": len(lengths),
        "helpers used once": f"{used_once} = {100 * used_once / len(lengths):.1f} % of functions",
        "length of functions": f"median {statistics.median(lengths):g}, mean {statistics.mean(lengths):.1f}, "
        f"90th percentile {sorted(lengths)[int(0.9 * len(lengths))]}, longest {max(lengths)}",
        "own-line comments": f"{100 * comments / lines:.1f} % of lines",
        "dict[str, Any], Row, Json": untyped,
        "files that name a kind of term": len(kinds),
    }
    for name, figure in figures.items():
        print(f"{name:52} {figure}")


def lines_of_code(sources: dict[Path, str], trees: dict[Path, ast.Module]) -> int:
    """Count the lines that are neither blank nor comment nor docstring."""
    total = 0
    for path, tree in trees.items():
        prose: set[int] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0] if node.body else None
                if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                    prose |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
        for number, line in enumerate(sources[path].splitlines(), start=1):
            total += bool(line.strip()) and not line.strip().startswith("#") and number not in prose
    return total


def functions(sources: dict[Path, str], trees: dict[Path, ast.Module]) -> tuple[list[int], int]:
    """The length of every function, and how many are helpers that are used once."""
    lengths, used_once = [], 0
    for path, tree in trees.items():
        names = Counter(re.findall(r"\b_[a-z]\w*\b", sources[path]))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths.append((node.end_lineno or node.lineno) - node.lineno + 1)
                used_once += node.name.startswith("_") and not node.name.startswith("__") and names[node.name] == 2
    return lengths, used_once


def imported_by(trees: dict[Path, ast.Module]) -> dict[Path, set[Path]]:
    """Which modules import each module."""
    modules = {path.with_suffix("").parts: path for path in trees}
    modules |= {path.parent.parts: path for path in trees if path.name == "__init__.py"}
    importers: dict[Path, set[Path]] = defaultdict(set)
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = path.parent.parts[: len(path.parent.parts) - node.level + 1]
                target = (*base, *(node.module.split(".") if node.module else ()))
                for alias in node.names:
                    imported = modules.get((*target, alias.name)) or modules.get(target)
                    if imported is not None and imported != path:
                        importers[imported].add(path)
    return importers


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
