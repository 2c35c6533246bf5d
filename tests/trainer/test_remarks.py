"""Each oddity of the rankings is one sentence, at the user or in the report, on what was done."""

from typing import Any

import pytest

from preferences.errors import RankloopError
from preferences.rankings import ALL_BAD
from preferences.records import Study
from preferences.store import Store
from tests.trainer.fill import add_comparison, add_prompts, annotator, rank, state
from tests.trainer.make import is_one_sentence
from tests.trainer.test_reward import config, fill, texts
from trainer.models import Base
from trainer.reward import Reward, reward

__all__ = ["config"]  # the fixture


@pytest.fixture
def people(store: Store, study: Study) -> None:
    """Comparisons by two annotators, about which nothing is odd."""
    fill(store, study, train=4)
    comparison = store.comparisons.all(study.id)[0]
    rank(store, comparison, [[0], [1], [2], [3]], annotator(store, "ben"))


def notes(store: Store, base: Base, config: dict[str, Any], **options: Any) -> list[str]:
    """The run's remarks, which also stand in its folder."""
    found: list[str] = reward(Reward(**config, epochs=0.0, **options), store, base)["notes"]
    assert state(config["out"])["notes"] == found
    assert all(is_one_sentence(sentence) for sentence in found)
    return found


@pytest.mark.usefixtures("people")
def test_nothing_odd_but_that_annotators_differ(store: Store, config: dict[str, Any], base: Base) -> None:
    found = notes(store, base, config)
    assert len(found) <= 1 and all("contradict" in sentence for sentence in found)


def test_a_single_annotator(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    fill(store, study, train=3)
    (sentence,) = notes(store, base, config)
    assert "single annotator" in sentence and "ceiling" in sentence


@pytest.mark.usefixtures("people")
def test_one_prompt_only(store: Store, config: dict[str, Any], base: Base) -> None:
    study = store.studies.create("other")
    (prompt,) = add_prompts(store, study, 1)
    for seed, name in ((1, "ann"), (2, "ben")):
        rank(store, add_comparison(store, study, prompt, texts(seed)), [[0, 1], [2, 3]], annotator(store, name))
    (sentence,) = notes(store, base, config, study="other")
    assert sentence.startswith("All 2 training comparisons are of one prompt")


def test_contradictions(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    """Within a comparison, and between two of the same answers."""
    fill(store, study, train=2)
    prompt = store.prompts.all("train")[1]
    for tiers in ([[0], [1]], [[1], [0]]):
        pair = add_comparison(store, study, prompt, ["One.", "Two."], policy=f"p{tiers[0][0]}")
        rank(store, pair, tiers)
    both = add_comparison(store, study, prompt, ["Three.", "Four.", "Five."])
    rank(store, both, [[0], [1], [2]])
    rank(store, both, [[0], [2], [1]], annotator(store, "ben"))
    sentence = next(one for one in notes(store, base, config) if "contradict" in one)
    assert " on 2 pairs" in sentence


@pytest.mark.usefixtures("people")
def test_empty_answers(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    prompt = store.prompts.all("train")[1]
    rank(store, add_comparison(store, study, prompt, ["", "Two.", " "]), [[1], [0, 2]])
    assert "2 of 19 answers are empty: each is judged by its end token alone." in notes(store, base, config)


def test_simulated_labels(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    fill(store, study, train=4, simulated=True)
    (sentence,) = notes(store, base, config, include_simulated=True)
    assert sentence.startswith("4 of 4 training comparisons are ranked by simulated annotators alone")


@pytest.mark.usefixtures("people")
def test_answers_longer_than_the_context(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    """Left out and said; another limit can be asked for; nothing left is an error with the reason."""
    prompt = store.prompts.all("train")[1]
    rank(store, add_comparison(store, study, prompt, ["word " * 900, "Two."]), [[1], [0]])
    found = notes(store, base, config)
    assert found[0].startswith("1 of 5 comparisons are left out") and "more than 512 tokens" in found[0]
    with pytest.raises(RankloopError, match=r"5 of 5 comparisons are left out, .* more than 3 tokens"):
        reward(Reward(**{**config, "out": config["out"].with_name("b")}, max_length=3), store, base)


@pytest.mark.usefixtures("people")
def test_held_out_answers_longer_than_the_context(
    store: Store, study: Study, config: dict[str, Any], base: Base
) -> None:
    """They are not judged by: a model with learned positions could not even read them."""
    for prompt, long in zip(add_prompts(store, study, 2, "heldout"), ("word " * 900, "One."), strict=True):
        rank(store, add_comparison(store, study, prompt, [long, "Two."]), [[1], [0]])
    found = notes(store, base, config)
    assert any(one.startswith("On held-out prompts 1 of 2 comparisons are left out") for one in found)
    assert state(config["out"])["heldout_accuracy"]["n"] == 1


def test_no_pairs_after_ties(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    prompts = add_prompts(store, study, 3)
    for index, prompt in enumerate(prompts):
        rank(store, add_comparison(store, study, prompt, texts(index)), [[0, 1, 2, 3]])
    with pytest.raises(RankloopError, match="in 3 all answers are tied") as refused:
        reward(Reward(**config), store, base)
    assert is_one_sentence(str(refused.value))
    assert not config["out"].exists()


@pytest.mark.usefixtures("people")
def test_comparisons_without_a_winner(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    """Left out and said, unless ties are learned from."""
    prompt = store.prompts.all("train")[1]
    rank(store, add_comparison(store, study, prompt, texts(99)), [[0, 1, 2, 3]])
    sentence = "1 of 5 comparisons have no winner once ties are taken off, and are not learned from."
    assert sentence in notes(store, base, config)


@pytest.mark.usefixtures("people")
def test_ties_that_are_learned_from(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    prompt = store.prompts.all("train")[1]
    rank(store, add_comparison(store, study, prompt, texts(99)), [[0, 1, 2, 3]])
    result = reward(Reward(**config, ties="davidson"), store, base)
    assert result["comparisons"] == 5 and not any("no winner" in sentence for sentence in result["notes"])


def test_all_called_bad(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    for index, prompt in enumerate(add_prompts(store, study, 2)):
        bad = add_comparison(store, study, prompt, texts(index))
        store.rankings.add_imported(annotator(store), bad, [bad.items], flags={ALL_BAD: [ALL_BAD]})
    with pytest.raises(RankloopError, match="2 are called all bad"):
        reward(Reward(**config), store, base)
