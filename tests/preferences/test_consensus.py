"""Soft labels from annotators' accuracies: against the truth of simulations, and against majority on votes held back."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from preferences.consensus import PairLabels, dawid_skene, pair_labels
from tests.preferences.ranked import Vote, labels_of, records, votes_of


def simulated(accuracy: list[float], units: int, seed: int = 0) -> tuple[PairLabels, np.ndarray]:
    """Everybody labels every unit; the labels and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([-1, 1], units)
    unit, annotator = (grid.ravel() for grid in np.meshgrid(np.arange(units), np.arange(len(accuracy)), indexing="ij"))
    right = rng.random(len(unit)) < np.array(accuracy)[annotator]
    return PairLabels(unit, annotator, np.where(right, truth[unit], -truth[unit])), truth


def majority(labels: PairLabels, units: int) -> np.ndarray:
    """[units] the share of labels for +1, a tie counting one half; nan without a label."""
    votes = np.bincount(labels.unit, minlength=units)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.bincount(labels.unit, (labels.sign + 1) / 2, units) / votes)


def test_accuracies_are_found_without_the_truth() -> None:
    labels, _ = simulated([0.95, 0.85, 0.7, 0.55], 3000)
    assert dawid_skene(labels, 3000, 4).accuracy == pytest.approx([0.95, 0.85, 0.7, 0.55], abs=0.03)


def test_it_beats_majority_where_annotators_differ_in_skill() -> None:
    labels, truth = simulated([0.95, 0.6, 0.55, 0.55, 0.55], 2000)
    soft, votes = dawid_skene(labels, 2000, 5).share, majority(labels, 2000)
    assert np.mean((soft > 0.5) == (truth > 0)) > np.mean((votes > 0.5) == (truth > 0)) + 0.15
    sure = soft > 0.9
    assert np.mean(truth[sure] > 0) == pytest.approx(soft[sure].mean(), abs=0.03)  # they are chances, not only an order


def test_one_step_by_hand() -> None:
    """Annotators who are right three times in four: 9 to 1 if two agree, even if not; a tie says nothing."""
    labels = PairLabels(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 0]), np.array([1, 1, 1, -1, 0]))
    found = dawid_skene(labels, 3, 2, prior=(3e6, 1e6))
    assert found.share == pytest.approx([0.9, 0.5, 0.5], abs=1e-5)
    assert majority(labels, 3).tolist() == [1, 0.5, 0.5]


def test_turning_a_pair_round_turns_its_label() -> None:
    labels, _ = simulated([0.9, 0.7, 0.6], 50)
    turn = np.where(np.arange(50) % 2, 1, -1)
    turned = PairLabels(labels.unit, labels.annotator, labels.sign * turn[labels.unit])
    one, two = dawid_skene(labels, 50, 3), dawid_skene(turned, 50, 3)
    assert np.where(turn > 0, two.share, 1 - two.share) == pytest.approx(one.share)
    assert one.accuracy == pytest.approx(two.accuracy)


def test_the_labels_of_rankings() -> None:
    votes: list[Vote] = [("x", "a", [[1], [0, 2]]), ("x", "b", [[0], [1], [2]]), ("y", "b", [[0], [1]])]
    labels, units = pair_labels(labels_of(votes))
    assert units.tolist() == [[0, 0, 1], [0, 0, 2], [0, 1, 2], [1, 0, 1]]
    said = {(int(u), int(a)): int(s) for u, a, s in zip(labels.unit, labels.annotator, labels.sign, strict=True)}
    assert said == {(0, 0): -1, (1, 0): 0, (2, 0): 1, (0, 1): 1, (1, 1): 1, (2, 1): 1, (3, 1): 1}


def held_back(labels: PairLabels, seed: int) -> tuple[PairLabels, PairLabels]:
    """One label that puts its unit apart of each unit with four labels or more is held back; the rest, and those."""
    order = np.random.default_rng(seed).permutation(len(labels.unit))
    mixed = labels.where(order)
    many = np.bincount(labels.unit)[mixed.unit] >= 4
    candidates = np.flatnonzero(many & (mixed.sign != 0))
    _, first = np.unique(mixed.unit[candidates], return_index=True)
    out = np.zeros(len(order), bool)
    out[candidates[first]] = True
    return mixed.where(~out), mixed.where(out)


def log_losses(labels: PairLabels, seed: int) -> tuple[float, float, float, float]:
    """Of labels held back, by majority (with a pseudo-vote each way) and by the model: log losses, and shares predicted."""
    units, people = int(labels.unit.max()) + 1, int(labels.annotator.max()) + 1
    rest, out = held_back(labels, seed)
    votes = np.bincount(rest.unit, minlength=units)
    smooth = (majority(rest, units) * votes + 1) / (votes + 2)
    found = dawid_skene(rest, units, people)
    skill = found.accuracy[out.annotator]
    by_votes, truth = smooth[out.unit], found.share[out.unit]
    by_model = truth * skill + (1 - truth) * (1 - skill)

    def loss(chance: np.ndarray) -> float:
        return float(-np.log(np.where(out.sign > 0, chance, 1 - chance)).mean())

    def right(chance: np.ndarray) -> float:
        return float(np.where(chance == 0.5, 0.5, (chance > 0.5) == (out.sign > 0)).mean())

    return loss(by_votes), loss(by_model), right(by_votes), right(truth)


def ukp_labels(real_data: Path) -> PairLabels:
    """Raw votes of workers on pairs of arguments. Label 1: the first is better, 2: the second, 0: equal."""
    with gzip.open(real_data / "agreement" / "ukpconvarg_raw_worker_labels.csv.gz", "rt") as lines:
        rows = list(csv.DictReader(lines))
    _, unit = np.unique([f"{row['topic']} {row['pair_id']}" for row in rows], return_inverse=True)
    _, annotator = np.unique([row["worker"] for row in rows], return_inverse=True)
    return PairLabels(unit, annotator, np.array([{"1": 1, "2": -1, "0": 0}[row["label"]] for row in rows]))


def llmfao_labels(real_data: Path) -> PairLabels:
    return pair_labels(labels_of(votes_of(records(real_data / "rankings" / "llmfao_pairs_x5.jsonl"))))[0]


def test_real_votes_held_back_are_predicted_better_than_by_majority(real_data: Path) -> None:
    """Which response a held-back vote prefers: better by the model, on both sets of votes and with each of five seeds."""
    for labels in (ukp_labels(real_data), llmfao_labels(real_data)):
        for seed in range(5):
            _, _, by_votes, by_model = log_losses(labels, seed)
            assert by_model > by_votes


def test_as_chances_its_soft_labels_beat_majority_only_where_annotators_say_enough(real_data: Path) -> None:
    """Why it is no default: with 19 votes a worker, pairs differ more than people in skill, and it is too sure."""
    loss_by_votes, loss_by_model, _, _ = log_losses(llmfao_labels(real_data), 0)
    assert loss_by_model < loss_by_votes - 0.02
    loss_by_votes, loss_by_model, _, _ = log_losses(ukp_labels(real_data), 0)
    assert loss_by_model > loss_by_votes
