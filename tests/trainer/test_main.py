"""The command line: results alone on standard output, a user's mistake as one sentence."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from preferences.records import Study
from preferences.store import Store
from tests.conftest import ROOT
from tests.trainer.fill import add_comparison, add_policy, add_prompts, annotator, rank, save_adapter
from trainer.__main__ import main
from trainer.models import Base

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def common(store: Store, study: Study, llama_folder: Path) -> list[str]:
    """Options of every command, on a store with two training prompts and a held-out one."""
    add_prompts(store, study, 2)
    add_prompts(store, study, 1, "heldout")
    return ["--db", str(store.path), "--model", str(llama_folder), "--quantize", "none"]


def call(*args: str) -> int:
    """Run a command; its exit status."""
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    code = stopped.value.code
    return code if isinstance(code, int) else -1


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """One demonstration."""
    talk = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}]
    path = tmp_path / "talks.jsonl"
    path.write_text(json.dumps({"messages": talk}) + "\n")
    return path


def test_json_is_one_document_and_nothing_else(common: list[str], talks: Path, tmp_path: Path) -> None:
    """The noisiest command: trl's trainer prints its logs."""
    command = [sys.executable, "-m", "trainer", "sft", *common, "--out", str(tmp_path / "sft"), "--json"]
    done = subprocess.run(
        [*command, "--demonstrations", str(talks)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(done.stdout)["policy"] == "sft"


def test_a_result_in_lines(common: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("sample", *common, "--max-new-tokens", "4", "--temperature", "1") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[:3] == ["prompts: 3", "responses: 12", "comparisons: 3"]


def test_evaluate_takes_two_words(
    common: list[str], store: Store, study: Study, llama_folder: Path, tmp_path: Path, base: Base,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    judge = str(save_adapter(llama_folder, tmp_path / "judge", head=True))
    heldout = store.prompts.all("heldout")[0]
    rank(store, add_comparison(store, study, heldout, ["Yes.", "No."]), [[0], [1]], annotator(store))
    assert call("evaluate", "reward", *common, "--adapter", judge, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {"accuracy", "longer_wins", "shorter_wins"} <= found.keys()
    assert found["accuracy"].keys() == {"value", "low", "high", "n"}
    record = {"prompt": heldout.messages, "responses": [{"text": "Yes."}, {"text": "No."}], "pairwise": [[0, 1, 1]]}
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(record) + "\n")
    nowhere = ["--db", str(tmp_path / "none.db"), *common[2:]]
    assert call("evaluate", "reward", *nowhere, "--adapter", judge, "--file", str(file), "--json") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == found["accuracy"]
    assert not (tmp_path / "none.db").exists()
    policy = save_adapter(llama_folder, tmp_path / "policy", seed=5)
    add_policy(store, study, base, policy, "tuned")
    options = ["--adapter", str(policy), "--against", "tuned", "--max-new-tokens", "4", "--json"]
    assert call("evaluate", "policy", *common, *options) == 0
    assert json.loads(capsys.readouterr().out)["prompts"] == 1


def mistakes(tmp_path: Path, t5_folder: Path) -> dict[str, tuple[list[str], str]]:
    """A name, the arguments after the common ones, and what the sentence says."""
    other = save_adapter(t5_folder, tmp_path / "other", head=True)
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{}\n")
    out = ["--out", str(tmp_path / "out")]
    return {
        "no database": (["sample", "--db", str(tmp_path / "none.db")], "There is no database"),
        "no folder": (["sample", "--db", str(tmp_path / "none" / "none.db")], "There is no database"),
        "not a database": (["sample", "--db", str(bad)], "another kind of file"),
        "unknown model": (["sample", "--model", str(tmp_path / "nowhere")], "could not be loaded"),
        "unknown hub model": (["sample", "--model", "nobody/nothing"], "could not be loaded"),
        "unknown study": (["sample", "--study", "other"], "no study 'other'"),
        "wrong adapter": (["ppo", *out, "--reward", str(other)], "was trained with base"),
        "no adapter": (["evaluate", "reward", "--adapter", str(tmp_path)], "no decided pair"),
        "no demonstrations": (["sft", *out, "--demonstrations", str(tmp_path / "none")], "cannot be read"),
        "bad demonstrations": (["sft", *out, "--demonstrations", str(bad)], "bad.jsonl, line 1"),
        "temperature": (["sample", "--temperature", "0"], "temperature must be above 0"),
        "temperature of rollouts": (
            ["ppo", *out, "--reward", "r", "--temperature", "0"],
            "temperature must be above 0",
        ),
        "no rankings": (["reward", *out], "0 training comparisons"),
        "out is a file": (
            ["sft", "--out", str(bad), "--demonstrations", str(tmp_path / "talks.jsonl")],
            "another --out",
        ),
    }


def test_a_mistake_is_one_sentence(
    common: list[str], store: Store, talks: Path, tmp_path: Path, t5_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Exit status 2, one line on standard error, no traceback, and nothing written."""
    assert talks.is_file()
    cases = mistakes(tmp_path, t5_folder)
    capsys.readouterr()
    for name, (args, sentence) in cases.items():
        words = 2 if args[0] == "evaluate" else 1
        code = call(*args[:words], *common, *args[words:])
        said = capsys.readouterr()
        assert (code, said.out) == (2, ""), (name, code, said)
        lines = [line for line in said.err.splitlines() if line and "Loading weights" not in line]
        assert len(lines) == 1 and sentence in lines[0], (name, said.err)
        assert not (tmp_path / "out").exists(), name
    assert store.comparisons.all() == [] and [policy.kind for policy in store.policies.all()] in ([], ["base"])


def test_ctrl_c_exits_with_130(common: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Base, "prompt_ids", interrupted)
    assert call("sample", *common) == 130


def test_a_typo_in_an_option_is_named(common: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("sample", *common, "--temprature", "1") == 2
    assert "temprature" in capsys.readouterr().err
