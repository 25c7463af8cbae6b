"""What the documentation shows can be run, and what it links to exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ABOUT_A_RUN = ["costs.md", "prompts.md", "reading_a_run.md"]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("name", ABOUT_A_RUN)
def test_the_code_about_a_run_runs(
    name: str, finished_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished_run.parent)
    Path("the_run").symlink_to(finished_run)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / name).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, name, "exec"), {})
    assert capsys.readouterr().out


BLOCKS = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


WITH_OUTPUT = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("langgraph.md", "testing.md")}


@pytest.mark.parametrize(
    ("name", "code", "output"), [(name, *block) for name, text in WITH_OUTPUT.items() for block in BLOCKS.findall(text)]
)
def test_a_page_prints_what_it_says(
    name: str,
    code: str,
    output: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, name, "exec"), {})
    assert capsys.readouterr().out == output


@pytest.mark.parametrize("name", WITH_OUTPUT)
def test_every_block_on_such_a_page_has_an_output(name: str) -> None:
    text = WITH_OUTPUT[name]
    assert len(BLOCKS.findall(text)) == text.count("```python\n") > 0


def test_the_page_on_prompts_knows_every_template_and_its_variables() -> None:
    text = (ROOT / "docs" / "prompts.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "prompts").glob("*/*.md")):
        [row] = [line for line in text.splitlines() if line.startswith(f"| `prompts/{path.parent.name}/{path.name}`")]
        [declared] = re.findall(r"^variables: \[(.*)\]$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert re.findall(r"`(\w+)`", row.split("|")[4]) == declared.split(", ")
        [schema] = re.findall(r"^output_schema: (\w+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert schema in row or path.name.startswith("transitions")
