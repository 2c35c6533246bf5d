"""What the documents promise is there: every test that docs/compare.md names exists, and every picture."""

import re

from tests.conftest import ROOT

COMPARE = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")


def test_every_test_that_the_comparison_names_exists() -> None:
    written = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)\(", written, re.MULTILINE))
    assert set(re.findall(r"`(test_\w+)`", COMPARE)) - there == set()


def test_every_yes_of_the_comparison_names_a_test_and_there_are_27_conventions() -> None:
    rows = [line for line in COMPARE.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[0] for row in cells if row[0].isdigit()] == [str(number) for number in range(1, 28)]
    for row in cells:
        ours = row[2] + row[3] if row[0].isdigit() else row[1]
        assert not re.match(r"(yes|partly)\b", ours) or "`test_" in ours, row[0]


def test_every_promise_of_the_threat_model_is_linked_to_a_test_that_runs_as_a_security_test() -> None:
    folder = ROOT / "docs"
    written = (folder / "security.md").read_text(encoding="utf-8")
    promised = written.partition("## Promised")[2].partition("## Not promised")[0]
    rows = [line for line in promised.splitlines() if line.startswith("| ") and not line.startswith("| Promise")]
    assert len(rows) >= 20 and all("](../tests/" in row for row in rows)
    links = re.findall(r"\[`(test_\w+)`\]\(([^)\s]+)\)", written)
    assert len(links) >= len(rows)
    for name, path in links:
        test = (folder / path).read_text(encoding="utf-8")
        head, found, _ = test.partition(f"\ndef {name}(")
        assert found, f"{path} has no {name}"
        of_module = re.search(r"^pytestmark = .*mark\.(security|durability)", test, re.MULTILINE)
        assert of_module or re.search(r"mark\.(security|durability)", head.rpartition("\n\n\n")[2]), name


def test_the_documents_show_every_picture_that_is_there_and_no_other() -> None:
    shown = {
        (path.parent / link).resolve()
        for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        for link in re.findall(r"!\[[^\]]+\]\(([^)\s]+\.png)\)", path.read_text(encoding="utf-8"))
    }
    assert shown == {path.resolve() for path in (ROOT / "docs" / "images").rglob("*.png")}
