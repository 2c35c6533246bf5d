"""Worths against published fits, choix, closed forms, and data that have none."""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import choix
import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st

from preferences.choices import Choices, Fit, Shape, fit, tie_sizes
from preferences.contests import Answers, Contests, contests_of, pairs_of, stages_of
from preferences.labels import NONE
from preferences.separation import why_undefined
from preferences.strengths import strengths, worths
from preferences.style import features
from tests.preferences.ranked import Vote, labels_of, records, votes_of

Tiers = list[list[int]]


def contests(rankings: Sequence[Tiers], models: int, prompts: Sequence[int] | None = None) -> Contests:
    """Rankings whose numbers are models."""
    width = max(sum(map(len, tiers)) for tiers in rankings)
    who, place = np.full((len(rankings), width), NONE), np.full((len(rankings), width), NONE)
    for row, tiers in enumerate(rankings):
        flat = [(model, tier) for tier, of_tier in enumerate(tiers) for model in of_tier]
        who[row, : len(flat)], place[row, : len(flat)] = zip(*flat, strict=True)
    prompt = np.arange(len(rankings)) if prompts is None else np.array(prompts)
    apart = np.full(who.shape, NONE)
    return Contests(who, place, np.zeros((*who.shape, 0)), prompt, [f"m{i}" for i in range(models)], apart)


def fitted(groups: list[Choices], models: int) -> Fit:
    found = fit(groups, Shape(models, tie_sizes(groups)))
    assert found is not None
    return found


def log_worths(rankings: Sequence[Tiers], models: int) -> list[float]:
    """Of Plackett-Luce."""
    return fitted(stages_of(contests(rankings, models)), models).theta[:models].tolist()


def one_choice(winner: int, losers: list[int]) -> Choices:
    models = np.array([[winner, *losers]])
    return Choices(
        models, np.arange(models.shape[1])[None] == 0, np.ones(1), np.zeros(1, int), np.zeros((*models.shape, 0))
    )  # fmt: skip


# The ground truth.


def test_published_fits_of_davidson_and_plackett_luce(real_data: Path) -> None:
    """Worths, tie parameter, standard errors and deviance. The published pudding fit stopped after 7 iterations."""
    cases = json.loads((real_data / "ranking_maths" / "plackett_luce_published.json").read_text())["cases"]
    for case in cases:
        models, truth = len(case["items"]), case["published"]
        rankings = [each["order"] for each in case["rankings"] for _ in range(each["count"])]
        found = fitted(stages_of(contests(rankings, models)), models)
        logs = found.theta[:models]
        assert logs - logs[0] == pytest.approx(truth["log_coef_ref_first"], abs=2e-4)
        assert -2 * found.log_likelihood == pytest.approx(truth["residual_deviance"], rel=2e-5)
        variance = np.linalg.inv(found.information)
        errors = [np.sqrt(variance[i, i] + variance[0, 0] - 2 * variance[0, i]) for i in range(1, models)]
        assert errors == pytest.approx(truth["se"][1:], abs=1e-4)
        if "worth" in truth:
            assert np.exp(logs) / np.exp(logs).sum() == pytest.approx(truth["worth"], abs=3e-5)
            assert np.exp(found.theta[models]) == pytest.approx(truth["tie2"], abs=2e-5)
            assert np.sqrt(variance[models, models]) == pytest.approx(truth["se_log_tie2"], abs=1e-5)


@pytest.mark.parametrize("kind", ["pairwise", "rankings", "top1"])
@pytest.mark.parametrize("number", [1, 2])
def test_the_cases_of_choix(real_data: Path, kind: str, number: int) -> None:
    """Its own numbers are rounded or not fully converged, so they are held to 1e-4 and its optimiser to 1e-5."""
    case = json.loads((real_data / "ranking_maths" / f"choix-testcase-{kind}-{number}.json").read_text())
    n, data = case["n_items"], case["data"]
    solver = {"pairwise": choix.opt_pairwise, "rankings": choix.opt_rankings, "top1": choix.opt_top1}[kind]
    if kind == "top1":
        found = fitted([one_choice(winner, losers) for winner, losers in data], n).theta.tolist()
    else:
        found = log_worths([[[i] for i in order] for order in data], n)
    assert found == pytest.approx(case["ml_est"], abs=1e-4)
    assert found == pytest.approx(solver(n, data, tol=1e-12).tolist(), abs=1e-5)


def test_the_cases_of_evalica(real_data: Path) -> None:
    """Bradley-Terry with half wins, wins counted with half ties, average win rate."""
    folder = real_data / "ranking_maths"
    matches = list(csv.DictReader((folder / "evalica-food.csv").open()))
    golden: dict[str, dict[str, float]] = {}
    for row in csv.DictReader((folder / "evalica-food-golden.csv").open()):
        golden.setdefault(row["algorithm"], {})[row["item"]] = float(row["score"])
    foods = sorted(golden["counting"])
    orders = {"left": [[0], [1]], "right": [[1], [0]], "tie": [[0, 1]]}
    rankings = [
        [[foods.index((match["left"], match["right"])[i]) for i in tier] for tier in orders[match["winner"]]]
        for match in matches
    ]
    made = contests(rankings, len(foods))
    rates = strengths(made)["win_rates"]
    counting = {f: sum(r["value"] * r["n"] for r in rates[f"m{i}"].values()) for i, f in enumerate(foods)}
    assert counting == pytest.approx(golden["counting"])
    average = {f: float(np.mean([r["value"] for r in rates[f"m{i}"].values()])) for i, f in enumerate(foods)}
    assert average == pytest.approx(golden["average_win_rate"])
    halves = [[[a], [b]] for tiers in rankings for a, b in halved(tiers)]
    worth = np.exp(log_worths(halves, len(foods)))
    assert dict(zip(foods, worth / worth.sum(), strict=True)) == pytest.approx(golden["bradley_terry"], abs=1e-4)


def halved(tiers: Tiers) -> list[tuple[int, int]]:
    """A win twice, a tie as one win each way."""
    flat = [i for tier in tiers for i in tier]
    return [(flat[0], flat[1])] * 2 if len(tiers) == 2 else [(flat[0], flat[1]), (flat[1], flat[0])]


# Small cases and other libraries.


def test_two_models_have_a_closed_form() -> None:
    """Davidson's: worths as wins to losses; nu^2 = ties^2 / (wins losses)."""
    found = strengths(contests([[[0], [1]]] * 6 + [[[1], [0]]] * 3 + [[[0, 1]]] * 4, 2))
    assert found["worths"]["m0"]["value"] == pytest.approx(6 / 9)
    assert found["worths"]["m0"]["log_worth"] == pytest.approx(np.log(2) / 2)
    assert found["tie"]["value"] == pytest.approx(4 / np.sqrt(18))
    assert found["plackett_luce"]["worths"]["m0"]["value"] == pytest.approx(6 / 9)
    assert found["win_rates"]["m0"]["m1"]["value"] == pytest.approx(8 / 13)
    assert found["worths"]["m1"]["n"] == 13


orders_of_four = st.lists(st.permutations(range(4)), min_size=3, max_size=12)


@settings(max_examples=20)
@given(orders_of_four)
def test_full_rankings_against_choix(orders: list[list[int]]) -> None:
    rankings = [[[i] for i in order] for order in orders]
    groups = stages_of(contests(rankings, 4))
    if why_undefined(groups, Shape(4), "abcd"):
        return
    assert log_worths(rankings, 4) == pytest.approx(choix.opt_rankings(4, orders, tol=1e-12).tolist(), abs=1e-5)
    wins = [(a, b) for order in orders for i, a in enumerate(order) for b in order[i + 1 :]]
    pairs = fitted([pairs_of(contests(rankings, 4))], 4).theta
    assert pairs.tolist() == pytest.approx(choix.opt_pairwise(4, wins, tol=1e-12).tolist(), abs=1e-5)


@st.composite
def weak_orders(draw: st.DrawFn) -> list[Tiers]:
    made = []
    for _ in range(draw(st.integers(4, 12))):
        level = draw(st.lists(st.integers(0, 2), min_size=3, max_size=3))
        made.append([[i for i in range(3) if level[i] == at] for at in sorted(set(level))])
    return made


@settings(max_examples=15)
@given(weak_orders(), st.permutations(range(3)), st.randoms())
def test_neither_the_names_of_models_nor_their_places_change_worths(
    rankings: list[Tiers], other: list[int], random: Any
) -> None:
    renamed = [[random.sample([other[i] for i in tier], len(tier)) for tier in tiers] for tiers in rankings]
    before, after = strengths(contests(rankings, 3)), strengths(contests(renamed, 3))
    for kind in (lambda found: found["worths"], lambda found: found["plackett_luce"]["worths"]):
        for i in range(3):
            one, two = kind(before)[f"m{i}"], kind(after)[f"m{other[i]}"]
            assert one.get("value") == pytest.approx(two.get("value"), abs=1e-8)


@settings(max_examples=30)
@given(weak_orders())
def test_ties_in_rankings_of_three_against_the_formula(rankings: list[Tiers]) -> None:
    """The likelihood by hand, in which no direction leads up at the fit."""
    groups = stages_of(contests(rankings, 3))
    shape = Shape(3, tie_sizes(groups))
    found = fit(groups, shape) if not why_undefined(groups, shape, "abc") else None
    if found is None:
        return
    best = slow_likelihood(rankings, found.theta, shape.sizes)
    assert best == pytest.approx(found.log_likelihood)
    for i in range(shape.length):
        for step in (-1e-3, 1e-3):
            assert slow_likelihood(rankings, found.theta + step * np.eye(shape.length)[i], shape.sizes) <= best + 1e-12


def slow_likelihood(rankings: list[Tiers], theta: Any, sizes: tuple[int, ...]) -> float:
    """Turner et al. 2020, equation 2."""

    def f(part: Sequence[int]) -> float:
        tie = 1.0 if len(part) == 1 else float(np.exp(theta[3 + sizes.index(len(part))]))
        return tie * float(np.exp(np.mean([theta[i] for i in part])))

    total = 0.0
    for tiers in rankings:
        left = [i for tier in tiers for i in tier]
        for tier in tiers:
            if len(left) > 1:
                every = [[i for bit, i in enumerate(left) if mask >> bit & 1] for mask in range(1, 1 << len(left))]
                total += np.log(f(tier) / sum(f(part) for part in every if len(part) in (1, *sizes)))
            left = [i for i in left if i not in tier]
    return total


# Data without finite worths.


@pytest.mark.parametrize(
    ("rankings", "models", "reason"),
    [
        ([[[0], [1]]] * 3 + [[[1], [0]]] + [[[2], [3]], [[3], [2]]], 4, "2 groups that were never compared"),
        ([[[0], [1]], [[1], [0]], [[2], [0]]], 3, "m2 never lost"),
        ([[[0], [1]], [[1, 2]], [[2, 0]]], 3, "ties and wins can be told apart"),
        ([[[0, 1]]] * 3, 2, "ties and wins can be told apart"),
    ],
)
def test_no_finite_worths_is_said_and_why(rankings: list[Tiers], models: int, reason: str) -> None:
    found = strengths(contests(rankings, models))
    for worth in (*found["worths"].values(), *found["plackett_luce"]["worths"].values()):
        assert reason in worth["undefined"]
    assert found["win_rates"]["m0"]["m1"]["n"] > 0


@settings(max_examples=60)
@example([[[0, 1, 2]], [[0, 1], [2]], [[0, 2], [1]], [[1, 2], [0]]])
@given(weak_orders())
def test_what_is_not_called_undefined_has_a_fit(rankings: list[Tiers]) -> None:
    made = contests(rankings, 3)
    for groups in ([pairs_of(made)], stages_of(made)):
        shape = Shape(3, tie_sizes(groups))
        found = fit(groups, shape)
        assert (why_undefined(groups, shape, "abc") is None) == (found is not None)


def test_no_ranking_of_two_models() -> None:
    labels = labels_of([("c", "a", [[0], [1]])])
    alone = Answers(np.array([[0, 0]]), np.array([[0, 1]]), np.zeros((1, 2, 0)), ["only"])
    found = strengths(contests_of(labels, alone))
    assert found["worths"] == {} == found["win_rates"]
    assert "fewer than two" in found["tie"]["undefined"]


# Intervals, equal texts, form.


def test_equal_texts_of_two_models_are_credited_to_both() -> None:
    """m0 and m1 said the same, which was shown as item 0; it beat m2's."""
    labels = labels_of([("c", "a", [[0], [1]])])
    answers = Answers(np.array([[0, 1, 2]]), np.array([[0, 0, 1]]), np.zeros((1, 3, 0)), ["m0", "m1", "m2"])
    rates = strengths(contests_of(labels, answers))["win_rates"]
    assert (rates["m0"]["m2"]["value"], rates["m1"]["m2"]["value"], rates["m0"]["m1"]["value"]) == (1, 1, 0.5)


def test_intervals_hold_the_truth() -> None:
    """Three models of worths 1 : 2 : 3, in rankings of 60 prompts with two rankings each."""
    rng, truth, held = np.random.default_rng(0), np.array([1, 2, 3]) / 6, np.zeros(3)
    for _ in range(100):
        rankings = [[[int(i)] for i in rng.choice(3, 3, False, truth)] for _ in range(120)]
        made = contests(rankings, 3, prompts=np.repeat(np.arange(60), 2).tolist())
        found = worths(stages_of(made), made.names, np.ones(3))["worths"]
        held += [found[f"m{i}"]["low"] <= truth[i] <= found[f"m{i}"]["high"] for i in range(3)]
    assert all(scipy.stats.binomtest(int(count), 100, 0.94).pvalue > 0.001 for count in held)


def test_the_step_is_close_to_fitting_resamples_anew() -> None:
    rng = np.random.default_rng(1)
    rankings: list[Tiers] = [[[0], [1]] if rng.random() < 0.7 else [[1], [0]] for _ in range(300)]
    found = strengths(contests(rankings, 2))["worths"]["m0"]
    wins = np.array([tiers == [[0], [1]] for tiers in rankings])
    anew = np.quantile(wins[rng.integers(0, 300, (4000, 300))].mean(1), [0.025, 0.975])
    assert (found["low"], found["high"]) == pytest.approx(tuple(anew), abs=0.01)


def test_prompts_are_resampled_not_rankings() -> None:
    rankings: list[Tiers] = [[[0], [1]] if prompt % 3 else [[1], [0]] for prompt in range(30)]
    once = strengths(contests(rankings, 2))["worths"]["m0"]
    often = strengths(contests(rankings * 10, 2, prompts=list(range(30)) * 10))["worths"]["m0"]
    assert (often["value"], often["low"], often["high"]) == pytest.approx((once["value"], once["low"], once["high"]))


def test_an_effect_of_length_is_taken_out() -> None:
    """m0 is no better than m1; its texts are longer, and the longer text wins four times in five."""
    rng = np.random.default_rng(2)
    n = 2000
    length = np.stack([rng.normal(1, 1, n), rng.normal(0, 1, n)], 1)
    odds = 1 / (1 + np.exp(-1.5 * (length[:, 0] - length[:, 1])))
    tiers = np.where((rng.random(n) < odds)[:, None], [0, 1], [1, 0])
    apart = np.full((n, 2), NONE)
    made = Contests(np.tile([0, 1], (n, 1)), tiers, length[..., None], np.arange(n), ["m0", "m1"], apart)
    found = strengths(made, ["length"])
    assert found["worths"]["m0"]["low"] > 0.6
    assert found["controlled"]["worths"]["m0"]["low"] < 0.5 < found["controlled"]["worths"]["m0"]["high"]
    effect, spread = found["controlled"]["effects"]["length"], length.std()
    assert effect["low"] / spread < 1.5 < effect["high"] / spread
    same = strengths(replace(made, features=np.ones((n, 2, 1))), ["length"])
    assert "alike" in same["controlled"]["effects"]["length"]["undefined"]
    assert same["controlled"]["worths"] == same["worths"]


def test_the_form_of_a_text() -> None:
    length, *counts = np.expm1(features("# One\n\n- a\n- **b**\n1. c\n\n#no heading\n"))
    assert (round(length), *np.round(counts)) == (37, 1, 3, 1)


def test_real_pairs_against_the_formula(real_data: Path) -> None:
    """Davidson's likelihood equations hold at the fit: each model's points are those expected (ties counting one half)."""
    made = records(real_data / "rankings" / "llmfao_pairs_x5.jsonl")
    names = sorted({answer["model"] for record in made for answer in record["responses"]})
    votes: list[Vote] = votes_of(made)
    answers = Answers(
        np.array([[names.index(answer["model"]) for answer in record["responses"]] for record in made]),
        np.tile([0, 1], (len(made), 1)), np.zeros((len(made), 2, 0)), names,
    )  # fmt: skip
    found = strengths(contests_of(labels_of(votes), answers))
    worth, nu = {name: found["worths"][name]["value"] for name in names}, found["tie"]["value"]
    assert sum(worth.values()) == pytest.approx(1)
    model = {record["id"]: [answer["model"] for answer in record["responses"]] for record in made}
    points, expected, tied = Counter[str](), Counter[str](), 0.0
    for comparison, _, tiers in votes:
        a, b = model[comparison]
        tie = nu * np.sqrt(worth[a] * worth[b])
        total = worth[a] + worth[b] + tie
        tied += tie / total
        for name, other in ((0, a), (1, b)):
            points[other] += 0.5 if len(tiers) == 1 else float(tiers[0] == [name])
            expected[other] += (worth[other] + tie / 2) / total
    assert dict(expected) == pytest.approx(dict(points), abs=1e-6)
    assert tied == pytest.approx(found["tie"]["n"])
