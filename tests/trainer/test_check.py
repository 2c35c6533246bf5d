"""`trainer check` queues a policy's oddest answers and keeps scores."""

from pathlib import Path
from typing import Any

import pytest

from preferences.errors import RankloopError
from preferences.live import live_accuracy
from preferences.records import Policy, Response, Study
from preferences.store import Store
from tests.trainer.fill import add_comparison, add_prompts, rank, save_adapter
from trainer.check import KINDS, Check, check, oddest
from trainer.models import Base, load_base
from trainer.roles import Roles
from trainer.scoring import RewardModel


@pytest.fixture(scope="session")
def reward(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(llama_folder, tmp_path_factory.mktemp("check") / "reward", seed=2, head=True)


def answer(prompt: str, policy: str, text: str, index: int = 0) -> Response:
    return Response.make(prompt, policy, text, 0, index)


def test_what_is_odd_about_answers() -> None:
    """Two prompts; the second has no answer to be held against; equal texts are looked at once."""
    plain, long, same = (
        answer("p", "new", "Yes."),
        answer("q", "new", "I cannot say. " * 5),
        answer("p", "new", "Yes.", 1),
    )
    old = answer("p", "old", "No.")
    scores = {plain.id: 1.0, long.id: 3.0, same.id: 1.0, old.id: -1.0}
    found = oddest([plain, long, same], {"p": old}, scores)
    assert tuple(found) == KINDS
    assert found["highest reward"] == [(long.id, 3.0, None), (plain.id, 1.0, old.id)]
    assert found["largest gain"] == [(plain.id, 2.0, old.id)]
    assert found["longest"][0][:2] == (long.id, 70.0)
    assert [ident for ident, *_ in found["most repetitive"]] == [long.id]
    assert found["most refusals"] == [(long.id, 5.0, None)]


def test_a_check(store: Store, study: Study, base: Base, reward: Path, llama_folder: Path) -> None:
    prompts, held = add_prompts(store, study, 3), add_prompts(store, study, 1, "heldout")
    store.policies.add(Policy("sft", "sft", "sft", base.id, base.quantization))
    store.policies.add(Policy("ppo", "ppo", "ppo", base.id, base.quantization, parent="sft"))
    store.studies.set_sampling_policies(study, [store.policies.get("ppo")])
    options: dict[str, Any] = {"db": store.path, "reward": reward, "each": 2}
    with pytest.raises(RankloopError, match="'ppo' has no stored answer to a prompt of study"):
        check(Check(**options), store, base)
    for prompt in prompts:
        store.responses.add(answer(prompt.id, name, f"{name} says {prompt.id[:3]} to it.") for name in ("sft", "ppo"))
    rank(store, add_comparison(store, study, held[0], ["Tea!", "No tea."]), [[0], [1]])
    found = check(Check(**options), store, base)
    assert found == {
        "policy": "ppo", "against": "sft", "scored": 8,
        "queued": {"highest reward": 2, "largest gain": 2, "longest": 2, "most repetitive": 0, "most refusals": 0},
    }  # fmt: skip
    again = check(Check(**options), store, load_base(str(llama_folder), "none"))
    assert again["scored"] == 0 and set(again["queued"].values()) == {0}
    model = RewardModel.load(Roles(load_base(str(llama_folder), "none")), "judge", reward)
    answers = store.responses.of_policy("ppo")
    expected = dict(zip((one.id for one in answers), model.score_responses(answers, prompts, 4096), strict=True))
    assert store.scores.of(str(reward.resolve()), expected) == pytest.approx(expected, abs=1e-4)
    assert live_accuracy(store, study, str(reward.resolve()))["all"]["n"] == 1
    with pytest.raises(RankloopError, match="each must be at least 1, not 0"):
        Check(**{**options, "each": 0})
