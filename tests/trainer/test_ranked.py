"""Rankings as what the reward model is trained on."""

import pytest

from preferences.records import Study
from preferences.store import Store
from tests.trainer.fill import add_comparison, add_prompts, annotator, rank
from trainer.models import Base
from trainer.ranked import data_hash, load_ranked

TEXTS = ["One.", "Two.", "Three.", "Four."]


def test_pairs_and_ties_of_one_ranking(store: Store, study: Study, base: Base) -> None:
    """3 > 1 = 2 > 0: five pairs, and the tie apart."""
    prompt = add_prompts(store, study, 1)[0]
    rank(store, add_comparison(store, study, prompt, TEXTS), [[3], [1, 2], [0]])
    (ranked,) = load_ranked(store, study, base, "train", simulated=False)
    assert sorted(ranked.pairs) == [(1, 0, 1.0), (2, 0, 1.0), (3, 0, 1.0), (3, 1, 1.0), (3, 2, 1.0)]
    assert [set(tie) for tie in ranked.ties] == [{1, 2}]
    assert (ranked.prompt, ranked.texts, ranked.weight) == (prompt.id, TEXTS, 1 / 6)
    assert ranked.tokens == sum(len(e.prompt) + len(e.response) for e in ranked.examples)


def test_shares_of_several_annotators(store: Store, study: Study, base: Base) -> None:
    """0 comes before 1 and before 2 for two of three; 1 and 2 have one vote each and a tie."""
    comparison = add_comparison(store, study, add_prompts(store, study, 1)[0], TEXTS[:3])
    for name, tiers in (("ann", [[0], [1], [2]]), ("ben", [[0], [1, 2]]), ("cy", [[2], [1], [0]])):
        rank(store, comparison, tiers, annotator(store, name))
    (ranked,) = load_ranked(store, study, base, "train", simulated=False)
    assert sorted(ranked.pairs) == [(0, 1, pytest.approx(2 / 3)), (0, 2, pytest.approx(2 / 3))]
    assert [set(tie) for tie in ranked.ties] == [{1, 2}]
    assert ranked.weight == 1 / 3


def test_a_minority_turns_the_pair_around(store: Store, study: Study, base: Base) -> None:
    comparison = add_comparison(store, study, add_prompts(store, study, 1)[0], TEXTS[:2])
    for name, tiers in (("ann", [[1], [0]]), ("ben", [[0, 1]])):
        rank(store, comparison, tiers, annotator(store, name))
    (ranked,) = load_ranked(store, study, base, "train", simulated=False)
    assert (ranked.pairs, ranked.ties, ranked.weight) == ([(1, 0, 0.75)], [], 1.0)


def test_a_truncated_answer_has_no_end_token(store: Store, study: Study, base: Base) -> None:
    first, second = add_prompts(store, study, 2)
    rank(store, add_comparison(store, study, first, TEXTS, finish="length"), [[0], [1, 2, 3]])
    rank(store, add_comparison(store, study, second, TEXTS, finish="stop"), [[0], [1, 2, 3]])
    cut, ended = load_ranked(store, study, base, "train", simulated=False)
    for text, truncated, whole in zip(TEXTS, cut.examples, ended.examples, strict=True):
        assert base.text(truncated.response) == base.text(whole.response) == text
        assert not set(truncated.response) & set(base.stop_ids)
        assert whole.response == [*truncated.response, base.stop_ids[0]]
    assert cut.examples[0].prompt == base.prompt_ids(first.messages)


def test_an_empty_answer_is_its_end_token(store: Store, study: Study, base: Base) -> None:
    comparison = add_comparison(store, study, add_prompts(store, study, 1)[0], ["", "Two."], finish="length")
    rank(store, comparison, [[1], [0]])
    (ranked,) = load_ranked(store, study, base, "train", simulated=False)
    assert ranked.examples[0].response == [base.stop_ids[0]]


def test_only_the_asked_split_and_study(store: Store, study: Study, base: Base) -> None:
    other = store.studies.create("other")
    prompts = {split: add_prompts(store, study, 2, split) for split in ("train", "heldout")}
    for split in prompts:
        rank(store, add_comparison(store, study, prompts[split][0], TEXTS), [[0, 1], [2, 3]])
    rank(store, add_comparison(store, other, prompts["train"][1], TEXTS), [[0, 1], [2, 3]])
    for split in prompts:
        assert [r.prompt for r in load_ranked(store, study, base, split, simulated=False)] == [prompts[split][0].id]


def test_simulated_rankings_only_if_asked(store: Store, study: Study, base: Base) -> None:
    comparison = add_comparison(store, study, add_prompts(store, study, 1)[0], TEXTS[:2])
    rank(store, comparison, [[1], [0]], annotator(store, "robot", simulated=True))
    assert load_ranked(store, study, base, "train", simulated=False) == []
    assert load_ranked(store, study, base, "train", simulated=True)[0].pairs == [(1, 0, 1.0)]
    rank(store, comparison, [[0], [1]])
    assert load_ranked(store, study, base, "train", simulated=False)[0].pairs == [(0, 1, 1.0)]


def test_the_hash_knows_the_rankings(store: Store, study: Study, base: Base) -> None:
    comparison = add_comparison(store, study, add_prompts(store, study, 1)[0], TEXTS[:2])
    hashes = set()
    for tiers in ([[1], [0]], [[0], [1]], [[0, 1]]):
        rank(store, comparison, tiers)
        hashes.add(data_hash(load_ranked(store, study, base, "train", simulated=False)))
    assert len(hashes) == 3
    rank(store, comparison, [[0, 1]])
    assert data_hash(load_ranked(store, study, base, "train", simulated=False)) in hashes
