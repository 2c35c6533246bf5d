"""The owners' tab of checks on the policy."""

from types import SimpleNamespace
from typing import Any

import pytest

from labeler.accounts import Forbidden
from labeler.pages.checks import HINT, check_failed, check_passed, checks
from preferences.records import Study
from preferences.store import Store
from tests.labeler.conftest import add_account
from tests.preferences.make import add_checks, add_duel

IDS = ("pid-secret-ppo", "pid-secret-sft")


@pytest.fixture
def owner(store: Store) -> Any:
    return SimpleNamespace(username=add_account(store, "rita", "researcher").id)


def test_odd_answers_pass_or_fail_one_after_the_other(store: Store, study: Study, owner: Any) -> None:
    add_checks(store, study, IDS)
    which, why, text, note, verdicts, accuracy, forms, days, fresh = checks(store, "main", "longest", owner)
    assert why == "longest: 109 characters" and note == ""
    assert text.startswith("User:\nWhat is odd 0?\n\nThe answer:\nVery well 0. So it goes.")
    assert text.endswith("What it is held against:\nWell 0.")
    assert "secret" not in text + why  # which policy wrote it is no matter
    assert verdicts == [["policy-secret-ppo", kind, "2", "0", ""] for kind in ("longest", "most repetitive")]
    second, why, *_, verdicts = check_failed(store, "main", "longest", which, "too long", owner)
    assert second != which and why.startswith("longest: ")
    assert verdicts[0] == ["policy-secret-ppo", "longest", "2", "1", "0 (0%)"]
    last, why, *_, verdicts = check_passed(store, "main", "longest", second, None, owner)
    assert (last, why) == ("", HINT) and verdicts[0][3:] == ["2", "1 (50%)"]
    assert checks(store, "main", "any", owner)[1].startswith("most repetitive: ")
    assert accuracy[0][:2] == [
        "all, by reward",
        "undefined, because no pair of scored answers to a held-out prompt was put apart",
    ]
    assert [row[0] for row in forms] == ["policy-secret-ppo", "policy-secret-sft"] and not days.visible
    assert fresh == "No training prompt has been ranked."


def test_accuracy_of_the_reward(store: Store, study: Study, owner: Any) -> None:
    for comparison in add_duel(store, study, [1, 1, 0, 1], IDS, judges=1):
        new, old = comparison.items
        store.scores.add("/runs/better/adapter", {new: 1.0, old: 0.0})
    rows = checks(store, "main", None, owner)[5]
    assert rows[0][:2] == ["all, by better", "0.750"] and rows[0][3] == "4"
    assert rows[1][0] == "strength not said"


def test_without_a_study_or_with_an_old_page(store: Store, study: Study, owner: Any) -> None:
    assert (
        checks(store, None, None, owner)[1]
        == check_passed(store, "gone", None, "x", None, owner)[1]
        == "Choose a study."
    )
    assert checks(store, study.name, None, owner)[1] == HINT
    assert check_failed(store, study.name, None, "gone", None, owner)[1].startswith("There is no such answer to check")


def test_only_owners_may(store: Store, study: Study) -> None:
    ann = SimpleNamespace(username=add_account(store, "ann").id)
    for call in (
        lambda: checks(store, study.name, None, ann),
        lambda: check_passed(store, study.name, None, "x", None, ann),
        lambda: check_failed(store, study.name, None, "x", None, ann),
    ):
        with pytest.raises(Forbidden):
            call()
