"""The owners' tab on blind evaluation, and `labeler stats --against`."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from labeler.__main__ import main
from labeler.accounts import Forbidden
from labeler.pages.evaluation import evaluation
from labeler.wins import COLUMNS, needed
from preferences.records import Annotator, Study
from preferences.store import Store
from tests.labeler.conftest import add_account
from tests.preferences.make import add_duel

SFT, PPO = "policy-secret-sft", "policy-secret-ppo"
IDS = ("pid-secret-ppo", "pid-secret-sft")


def request(account: Annotator) -> Any:
    return SimpleNamespace(username=account.id)


@pytest.fixture
def owner(store: Store) -> Any:
    return request(add_account(store, "rita", "researcher"))


def test_what_the_tab_shows(store: Store, study: Study, owner: Any) -> None:
    add_duel(store, study, [1, 1, 1, 0.5, 0] * 8, IDS, lengths=(1, 2))
    said, against, table, looks = evaluation(store, "main", None, False, owner)
    assert said.startswith(f"{PPO} is better than {SFT}: decided after ")
    assert against.value == SFT and [name for name, _ in against.choices] == [PPO, SFT]
    (row,) = table.value["data"]
    cells = dict(zip(COLUMNS, row, strict=True))
    assert (cells["Policy"], cells["Wins"], cells["Decision"]) == (PPO, "0.700", "better")
    assert (cells["Prompts"], cells["Labels"], cells["Labels to go, looking once"]) == ("40", "120", "none")
    low, high = map(float, cells["However often one looks"].split(" to "))
    tight = [float(end) for end in cells["95% interval"].split(" to ")]
    assert 0.5 < low < tight[0] and tight[1] < high
    assert looks.visible and looks.y_lim == [0, 1]
    assert len(looks.value["data"]) == 3 * 40


def test_against_another_policy(store: Store, study: Study, owner: Any) -> None:
    add_duel(store, study, [1, 0, 1], IDS)
    said, _, table, _ = evaluation(store, "main", PPO, False, owner)
    assert said.startswith(f"Whether {SFT} is better than {PPO} is open; ")
    assert table.value["data"][0][1] == "0.333"


def test_when_there_is_nothing_to_show(store: Store, study: Study, owner: Any) -> None:
    said, _, table, looks = evaluation(store, study.name, None, None, owner)
    assert said.startswith("No held-out prompt has ranked answers of two policies; queue some with")
    assert not table.visible and not looks.visible
    assert "There is no study" in evaluation(store, None, None, None, owner)[0]


def test_only_owners_may(store: Store, study: Study) -> None:
    with pytest.raises(Forbidden):
        evaluation(store, study.name, None, None, request(add_account(store, "ann")))


def test_labels_to_go_in_words() -> None:
    assert needed({"value": 0, "low": 0, "high": 0, "n": 9, "prompts": 0}) == "none"
    assert needed({"value": 90, "low": 10, "high": None, "n": 9, "prompts": 30}) == "about 90 (at best 10)"
    assert needed({"undefined": "why"}) == "undefined, because why"


def test_on_the_command_line(store: Store, study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    add_duel(store, study, [1, 1, 0.5], IDS)

    def stats(*more: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["stats", "--against", SFT, "--db", str(store.path), *more])
        said = capsys.readouterr()
        assert ended.value.code == 0, said.err
        return said.out

    found = json.loads(stats("--json"))
    assert found["against"] == SFT
    assert found["policies"][PPO]["win_rate"]["value"] == pytest.approx(2.5 / 3)
    lines = stats()
    assert f"{PPO} wins: 0.833 [0.500, 1.000], n=3 prompts (9 labels)" in lines
    assert f"{PPO} is open: " in lines
