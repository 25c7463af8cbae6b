"""The shape of the package in numbers: `make shape`, or `python .ci/shape.py TREE` for another checkout.

What is counted is read from the syntax trees of all modules but tests; a helper is a function whose name begins with one
underscore, and one that is used once is named exactly twice in its file.
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

    print(f"modules                              {len(sources)}")
    print(f"lines                                {lines}")
    print(f"modules imported by exactly one      {sum(len(who) == 1 for who in importers.values())}")
    print(f"functions                            {len(lengths)}")
    print(f"helpers used once                    {used_once} = {100 * used_once / len(lengths):.1f} % of functions")
    print(f"length of functions                  median {statistics.median(lengths):g}, mean {statistics.mean(lengths):.1f},"
          f" 90th percentile {sorted(lengths)[int(0.9 * len(lengths))]}, longest {max(lengths)}")  # fmt: skip
    print(f"own-line comments                    {100 * comments / lines:.1f} % of lines")
    print(f"dict[str, Any], Row, Json            {untyped}")
    print(
        f"files that name a kind of term       {len(kinds)}, {sum('studies' not in name for name in kinds)} without studies"
    )


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
