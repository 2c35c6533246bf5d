"""Numbers about a reward model and about a policy, against counts by hand."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preferences.errors import RankloopError
from preferences.exchange.importing import import_rankings
from preferences.records import Policy, Study
from preferences.store import Store
from tests.trainer.fill import add_comparison, add_policy, add_prompts, annotator, demonstrations, rank, save_adapter
from trainer.blind import BLIND
from trainer.evaluate import EvaluatePolicy, EvaluateReward, evaluate_policy, evaluate_reward
from trainer.models import Base, load_base
from trainer.ranked import Ranked
from trainer.reward_metrics import accuracy, split_like
from trainer.roles import Roles, WrongAdapter
from trainer.scoring import RewardModel

INTERVAL = {"value", "low", "high", "n"}


@pytest.fixture(scope="session")
def adapters(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two policies and a reward model on the tiny Llama."""
    folder = tmp_path_factory.mktemp("adapters")
    return {
        "old": save_adapter(llama_folder, folder / "old", scale=0.2),
        "new": save_adapter(llama_folder, folder / "new", seed=3, scale=0.2),
        "reward": save_adapter(llama_folder, folder / "reward", seed=2, head=True),
    }


@pytest.fixture
def fresh(llama_folder: Path) -> Callable[[], Base]:
    """Loads the base anew: one that has adapters takes no others of the same names."""
    return lambda: load_base(str(llama_folder), "none")


def ranked(prompt: str, pairs: list[tuple[int, int, float]]) -> Ranked:
    """A comparison of which only the pairs matter."""
    return Ranked(prompt, [], [], pairs, [])


def test_accuracy_by_hand() -> None:
    """Right, wrong, undecided; three of two prompts right, two and a half wrong."""
    one = ranked("p", [(0, 1, 1.0), (1, 2, 0.7)])
    two = ranked("p", [(1, 0, 1.0)])
    three = ranked("q", [(0, 1, 1.0), (0, 2, 1.0), (1, 2, 1.0)])
    found = accuracy([one, two, three], [[2.0, 1.0, 1.0], [0.0, 5.0], [3.0, 2.0, 4.0]])
    assert found.value == pytest.approx((1 + 0.5 + 1 + 1 + 0 + 0) / 6)
    assert found.n == 6 and found.low <= found.value <= found.high


def test_scores_are_dealt_out_in_order() -> None:
    three, two = (Ranked("p", [None] * k, [], [], []) for k in (3, 2))  # type: ignore[list-item]
    assert split_like([1.0, 2.0, 3.0, 4.0, 5.0], [three, two]) == [[1.0, 2.0, 3.0], [4.0, 5.0]]


def test_a_reward_model_beside_its_baselines(
    store: Store, study: Study, base: Base, adapters: dict[str, Path], fresh: Callable[[], Base]
) -> None:
    """Every count again, by hand, from the model's scores of the stored answers."""
    prompts, tiers = add_prompts(store, study, 5, "heldout"), [[2], [0, 3], [1]]
    shown = [[f"Tea {i}!", f"{'bread and ' * i} cheese.", "A long walk in the rain.", "Yes."] for i in range(5)]
    for prompt, texts in zip(prompts, shown, strict=True):
        rank(store, add_comparison(store, study, prompt, texts), tiers)
    rank(store, add_comparison(store, study, add_prompts(store, study, 1)[0], ["a", "b"]), [[0], [1]])
    found = evaluate_reward(EvaluateReward(db=store.path, adapter=adapters["reward"]), store, base)

    model = RewardModel.load(Roles(fresh()), "judge", adapters["reward"])
    hits, longer = [], []
    for prompt, texts in zip(prompts, shown, strict=True):
        scores = model.score_responses(store.responses.of_prompt(prompt.id), [prompt], 4096)
        for upper, lower in combinations(tiers, 2):
            for better in upper:
                hits += [scores[better] > scores[worse] for worse in lower]
                longer += [(np.sign(len(texts[better]) - len(texts[worse])) + 1) / 2 for worse in lower]
    assert len(hits) == 25 and 0 < sum(hits) < 25
    assert set(found["accuracy"]) == INTERVAL
    assert found["accuracy"]["value"] == pytest.approx(np.mean(hits))
    assert (found["accuracy"]["n"], found["ties"], found["prompts"]) == (25, 5, 5)
    assert found["longer_wins"] == pytest.approx(np.mean(longer))
    assert found["shorter_wins"] == pytest.approx(1 - np.mean(longer))
    assert found["accuracy"]["low"] < found["accuracy"]["value"] < found["accuracy"]["high"]

    train = evaluate_reward(EvaluateReward(db=store.path, adapter=adapters["reward"], split="train"), store, fresh())
    assert train["accuracy"]["n"] == 1


def test_a_reward_model_without_held_out_rankings(
    store: Store, study: Study, base: Base, adapters: dict[str, Path], fresh: Callable[[], Base]
) -> None:
    options = EvaluateReward(db=store.path, adapter=adapters["reward"])
    comparison = add_comparison(store, study, add_prompts(store, study, 1, "heldout")[0], ["a", "b"])
    rank(store, comparison, [[0], [1]], annotator(store, "robot", simulated=True))
    with pytest.raises(RankloopError, match=r"no decided pair in split heldout .*--include-simulated"):
        evaluate_reward(options, store, base)
    asked = EvaluateReward(db=store.path, adapter=adapters["reward"], include_simulated=True)
    assert evaluate_reward(asked, store, fresh())["accuracy"]["n"] == 1
    with pytest.raises(WrongAdapter, match="no score head"):
        evaluate_reward(EvaluateReward(db=store.path, adapter=adapters["old"], include_simulated=True), store, base)


def record(source: str, texts: list[str], annotations: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A line of the record format."""
    prompt = [{"role": "user", "content": f"About {texts[0]}?"}]
    responses = [{"text": text} for text in texts]
    return {"source": source, "prompt": prompt, "responses": responses, "annotations": annotations, **more}


def test_a_file_is_judged_as_its_import_would_be(
    store: Store, study: Study, base: Base, adapters: dict[str, Path], fresh: Callable[[], Base], tmp_path: Path
) -> None:
    """Ties, several annotators, pairs that no ranking can express, equal texts: the same figures, without a database."""
    lines = [
        record("one", ["Tea!", "Bread and cheese.", "A walk.", "Yes."], [{"annotator": "a", "ranking": [[2], [0, 3], [1]]}]),
        record("one", ["Rain", "Sun", "Wind"], [
            {"annotator": "a", "ranking": [[0], [1], [2]]}, {"annotator": "b", "ranking": [[1], [0, 2]]},
            {"annotator": "robot", "simulated": True, "ranking": [[2], [1], [0]]},
            {"annotator": "c", "verdict": "cannot_rank"},
        ]),
        record("two", ["x", "yy", "zzz"], [], pairwise=[[0, 1, 1], [1, 2, 1], [0, 2, 2]]),
        record("two", ["same", "same", "other words"], [{"annotator": "a", "all_bad": True, "ranking": [[0, 1, 2]]}]),
    ]  # fmt: skip
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = EvaluateReward(db=tmp_path / "none.db", adapter=adapters["reward"], file=path)
    assert not options.needs_store()
    found = evaluate_reward(options, None, base)
    import_rankings(store, study, path, heldout=0.0)
    stored = evaluate_reward(EvaluateReward(db=store.path, adapter=adapters["reward"], split="train"), store, fresh())
    assert set(found["accuracy"]) == INTERVAL and set(found["by_source"]) == {"one", "two"}
    assert found["accuracy"]["n"] == 5 + 2 + 3 and found["ties"] == 1 + 1
    assert found["by_source"]["two"]["n"] == 3
    for name in stored.keys() - {"by_source", "seconds_an_answer"}:
        assert found[name] == pytest.approx(stored[name]), name
    for source, interval in stored["by_source"].items():
        assert found["by_source"][source] == pytest.approx(interval)


def test_what_is_wrong_with_a_file(base: Base, adapters: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"

    def evaluate(*lines: dict[str, Any]) -> None:
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        evaluate_reward(EvaluateReward(adapter=adapters["reward"], file=path), None, base)

    tied = record("one", ["a", "b"], [{"annotator": "x", "ranking": [[0, 1]]}])
    with pytest.raises(RankloopError, match=r"some\.jsonl has no decided pair"):
        evaluate(tied)
    robot = record("one", ["a", "b"], [{"annotator": "x", "simulated": True, "ranking": [[0], [1]]}])
    with pytest.raises(RankloopError, match="need --include-simulated"):
        evaluate(robot)
    with pytest.raises(RankloopError, match=r"some\.jsonl, line 2: .*responses"):
        evaluate(tied, {**tied, "responses": []})
    with pytest.raises(RankloopError, match="cannot be read"):
        evaluate_reward(EvaluateReward(adapter=adapters["reward"], file=tmp_path / "none"), None, base)


@pytest.fixture
def policies(store: Store, study: Study, base: Base, adapters: dict[str, Path]) -> tuple[Policy, Policy]:
    """The newer one was trained from the older one; three held-out prompts and two others wait."""
    add_prompts(store, study, 3, "heldout")
    add_prompts(store, study, 2)
    old = add_policy(store, study, base, adapters["old"], "old")
    new = store.policies.add(
        Policy("new", "new", "ppo", base.id, "none", str(adapters["new"].resolve()), parent=old.id)
    )
    return new, old


def options_of(store: Store, adapters: dict[str, Path], **more: Any) -> EvaluatePolicy:
    """Options of short answers."""
    return EvaluatePolicy(**{"db": store.path, "adapter": adapters["new"], "max_new_tokens": 8, **more})


def test_a_policy_against_the_one_it_came_from(
    store: Store, base: Base, adapters: dict[str, Path], policies: tuple[Policy, Policy], fresh: Callable[[], Base]
) -> None:
    result = evaluate_policy(options_of(store, adapters, reward=adapters["reward"]), store, base)
    assert set(result) == {"prompts", "policy", "against", "new", "old", "win_rate", "score_difference"}
    assert (result["prompts"], result["policy"], result["against"]) == (3, "new", "old")
    for side in ("new", "old"):
        assert set(result[side]) == {"length", "eos_rate", "score"}
        assert set(result[side]["score"]) == INTERVAL and result[side]["score"]["n"] == 3
        assert 1 <= result[side]["length"] <= 8 and 0 <= result[side]["eos_rate"] <= 1
    assert set(result["win_rate"]) == INTERVAL and 0 <= result["win_rate"]["value"] <= 1
    difference = result["new"]["score"]["value"] - result["old"]["score"]["value"]
    assert result["score_difference"]["value"] == pytest.approx(difference)
    assert store.comparisons.all() == []

    model = RewardModel.load(Roles(fresh()), "judge", adapters["reward"])
    wins, means = [], []
    for prompt in store.prompts.all("heldout"):
        new, old = (
            model.score_responses(store.responses.of_prompt(prompt.id, policy.id), [prompt], 4096)
            for policy in policies
        )
        wins.append(np.mean([float(a > b) for a in new for b in old]))
        means.append(np.mean(new))
    assert result["win_rate"]["value"] == pytest.approx(np.mean(wins))
    assert result["new"]["score"]["value"] == pytest.approx(np.mean(means), abs=1e-4)


def test_answers_of_both_are_queued_mixed(
    store: Store, study: Study, base: Base, adapters: dict[str, Path], policies: tuple[Policy, Policy]
) -> None:
    result = evaluate_policy(options_of(store, adapters, queue=True), store, base)
    assert set(result) == {"prompts", "policy", "against", "new", "old", "queued", "equal"}
    assert "score" not in result["new"]
    queued = store.comparisons.all(study.id)
    assert result["queued"] == len(queued) == 3
    assert {comparison.prompt for comparison in queued} == {p.id for p in store.prompts.all("heldout")}
    for comparison in queued:
        by = [response.policy for response in store.responses.get_many(comparison.same).values()]
        assert sorted(by) == sorted(policy.id for policy in policies for _ in range(2))
    assert store.queue.waiting(study) == 3


@pytest.mark.usefixtures("policies")
def test_three_policies_and_a_person_in_one_queue(
    store: Store,
    study: Study,
    base: Base,
    adapters: dict[str, Path],
    tmp_path: Path,
) -> None:
    held = store.prompts.all("heldout")
    store.policies.add(Policy("mid", "new@2", "ppo", base.id, "none", str(adapters["new"].resolve())))
    file = demonstrations(tmp_path / "d.jsonl", [[*held[0].messages, {"role": "assistant", "content": "By hand."}]])
    result = evaluate_policy(
        options_of(store, adapters, queue=True, also=("new@2",), human=file, reward=adapters["reward"]), store, base
    )
    assert set(result["others"]["new@2"]) == {"length", "eos_rate", "score", "win_rate", "score_difference"}
    assert (result["queued"], result["equal"], result["human"]) == (3, 0, 1)
    by = {
        comparison.prompt: Counter(r.policy for r in store.responses.get_many(comparison.same).values())
        for comparison in store.comparisons.all(study.id)
    }
    human = store.policies.get("human")
    assert human.kind == "human"
    assert by[held[0].id] == {"new": 1, "old": 1, "mid": 1, human.id: 1}
    assert all(sorted(by[prompt.id].values()) == [1, 1, 2] for prompt in held[1:])
    assert {comparison.origin for comparison in store.comparisons.all()} == {BLIND}


def test_who_is_named_twice_has_no_more_places(
    store: Store, study: Study, base: Base, adapters: dict[str, Path], policies: tuple[Policy, Policy]
) -> None:
    """Nor are its answers drawn twice. Whoever chooses in a list may tick what is evaluated anyway."""
    new, old = policies
    store.policies.add(Policy("mid", "new@2", "ppo", base.id, "none", str(adapters["new"].resolve())))
    named = (new.name, "new@2", old.name, "mid")
    result = evaluate_policy(options_of(store, adapters, queue=True, also=named, k=3), store, base)
    assert list(result["others"]) == ["new@2"]
    drawn = Counter(r.policy for prompt in store.prompts.all("heldout") for r in store.responses.of_prompt(prompt.id))
    assert drawn == dict.fromkeys((new.id, old.id, "mid"), 3 * 3)
    by = Counter(
        r.policy for one in store.comparisons.all(study.id) for r in store.responses.get_many(one.same).values()
    )
    assert set(by.values()) == {4}, "four places at each of three prompts, in turns"


@pytest.mark.usefixtures("policies")
def test_fewer_prompts_and_another_opponent(store: Store, base: Base, adapters: dict[str, Path]) -> None:
    result = evaluate_policy(options_of(store, adapters, prompts=2, k=2, against="new"), store, base)
    assert (result["prompts"], result["against"]) == (2, "new")
    assert len(store.responses.of_policy("new")) == 2 * 2 * 2


def test_every_round_is_held_against_the_sft_policy(
    store: Store, base: Base, adapters: dict[str, Path], policies: tuple[Policy, Policy], tmp_path: Path
) -> None:
    """However many rounds ago that was."""
    new, old = policies
    later = tmp_path / "later"
    shutil.copytree(adapters["new"], later)
    at = str(later.resolve())
    store.policies.add(Policy("later", "later", "ppo", base.id, "none", at, parent=new.id))
    result = evaluate_policy(replace(options_of(store, adapters, k=2), adapter=later), store, base)
    assert (result["policy"], result["against"]) == ("later", old.name)


def test_a_job_queues_its_comparisons_once(
    store: Store, study: Study, base: Base, adapters: dict[str, Path], policies: tuple[Policy, Policy]  # noqa: ARG001
) -> None:  # fmt: skip
    """Also if its worker dies after that and another one takes it up."""
    store.jobs.add("evaluate", {})
    job = store.jobs.claim("w", 60)
    assert job is not None
    result = evaluate_policy(options_of(store, adapters, queue=True), store, base, job)
    again = evaluate_policy(options_of(store, adapters, queue=True), store, base, store.jobs.get(job.id))
    assert again == result == store.jobs.get(job.id).progress["result"]
    assert len(store.comparisons.all(study.id)) == result["queued"] == 3


def test_what_a_policy_cannot_be_evaluated_with(
    store: Store, base: Base, adapters: dict[str, Path], policies: tuple[Policy, Policy], tmp_path: Path
) -> None:
    """Each is found before anything is sampled."""
    for given, sentence in (
        ({"adapter": tmp_path}, "is not the adapter of a policy in this database"),
        ({"against": "nobody"}, "no policy 'nobody'"),
        ({"adapter": adapters["old"]}, "'old' was not trained from another policy; give --against"),
        ({"reward": adapters["old"]}, "no score head"),
    ):
        with pytest.raises(RankloopError, match=sentence):
            evaluate_policy(options_of(store, adapters, **given), store, base)
    assert store.responses.of_policy("new") == store.responses.of_policy(policies[1].id) == []
    empty = store.studies.create("empty")
    with pytest.raises(RankloopError, match="no held-out prompts"):
        evaluate_policy(options_of(store, adapters, study=empty.name), store, base)
