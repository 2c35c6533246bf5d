"""`labeler study` and what `labeler people` has beside accounts."""

import csv
import io
import json
from pathlib import Path

import pytest

from preferences.records import Annotator, Comparison, Policy
from preferences.store import Store
from preferences.tables.rankings import Answer
from tests.conftest import PLAIN
from tests.labeler.test_main import Run, refused, run  # noqa: F401
from tests.preferences.make import add_annotator, add_duel

WHAT = [{"role": "user", "content": "Which is the larger number, two or three?"}]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "new.db"


def study_of(run: Run, db: Path, name: str) -> dict[str, object]:  # noqa: F811
    studies = json.loads(run("study", "list", "--json", "--db", db)[1])
    return next(study for study in studies if study["name"] == name)


def rank(store: Store, account: Annotator, comparison: Comparison, active_ms: int = 0) -> None:
    lease = store.queue.lease(comparison.id, account, comparison.items, 60)
    tiers = [[item] for item in comparison.items]
    store.rankings.submit(account, Answer(comparison.id, lease.id, f"nonce-{lease.id}", tiers, active_ms))


def test_a_study_is_made_changed_and_ended(run: Run, db: Path, tmp_path: Path) -> None:  # noqa: F811
    for name, text in (("rules.md", "# Be fair"), ("consent.md", "We publish what you rank."), ("new.md", "# Be kind")):
        (tmp_path / name).write_text(text)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"messages": WHAT}) + "\n")
    made = json.loads(
        run("study", "create", "main", "--mode", "pairwise", "--plan", "shared=0.5", "strengths=true", "--flags", "harmful",
            "--guidelines", tmp_path / "rules.md", "--consent", tmp_path / "consent.md", "--prompts", prompts,
            "--db", db, "--json")[1]
    )  # fmt: skip
    assert (made["mode"], made["k"], made["guideline"], made["consent"]) == ("pairwise", 2, 1, 1)
    assert (
        made["plan"]["shared"] == 0.5 and made["plan"]["flags"] == ["harmful"] and made["plan"]["labels_heldout"] == 3
    )
    store = Store(db)
    assert len(store.prompts.all(study=store.studies.get("main").id)) == 1
    assert (
        run("study", "edit", "main", "--plan", "labels_train=2", "--guidelines", tmp_path / "new.md", "--db", db)[0]
        == 0
    )
    changed = study_of(run, db, "main")
    assert changed["guideline"] == 2 and changed["plan"] == {**made["plan"], "labels_train": 2}
    for name in ("ann", "bob"):
        add_annotator(store, name)
    for given in (["bob"], ["ann", "bob"], []):
        assert run("study", "edit", "main", "--annotators", *given, "--db", db)[0] == 0
        assert study_of(run, db, "main")["annotators"] == given
    assert run("study", "edit", "main", "--annotators", "ann", "--db", db)[0] == 0
    refused(run("study", "edit", "main", "--annotators", "nobody", "--db", db), "nobody")
    assert run("study", "edit", "main", "--k", "2", "--db", db)[0] == 0
    assert study_of(run, db, "main")["annotators"] == ["ann"]  # what is not given stays as it is
    for verb, status in (("pause", "paused"), ("resume", "active"), ("close", "closed")):
        assert run("study", verb, "main", "--db", db)[0] == 0
        assert study_of(run, db, "main")["status"] == status


def test_what_is_wrong_is_told_at_once_and_changes_nothing(run: Run, db: Path, tmp_path: Path) -> None:  # noqa: F811
    outcome = run("study", "create", "main", "--plan", "labels_train=0", "shared=2", "colour=red", "--db", db)
    for words in ("labels_train", "shared", "colour"):
        refused(outcome, words)
    refused(run("study", "create", "main", "--plan", "labels_train", "--db", db), "name=value")
    refused(run("study", "create", "main", "--mode", "pairwise", "--k", "4", "--db", db), "pairwise")
    refused(run("study", "create", "main", "--mode", "best-worst", "--k", "4", "--db", db), "6 to 9")
    refused(run("study", "create", "main", "--k", "10", "--db", db), "2 to 9")
    refused(run("study", "create", "main", "--guidelines", tmp_path / "absent.md", "--db", db), "absent.md")
    refused(run("study", "create", "main", "--policies", "absent", "--db", db), "no policy")
    assert json.loads(run("study", "list", "--json", "--db", db)[1]) == []
    assert run("study", "create", "main", "--db", db)[0] == 0
    refused(run("study", "create", "main", "--db", db), "already")
    refused(run("study", "edit", "absent", "--db", db), "no study")


def test_a_policy_answers_only_once_the_gate_lets_it(run: Run, store: Store) -> None:  # noqa: F811
    for policy in (Policy("sft", "sft", "sft"), Policy("ppo", "ppo", "ppo", parent="sft")):
        store.policies.add(policy)
    study = store.studies.create("gated", k=2, plan={"min_win_rate": 0.5})
    for command in (("policies", "--study", "gated", "ppo"), ("edit", "gated", "--policies", "ppo")):
        refused(run("study", *command, "--db", store.path), "Nobody has ranked answers of ppo and sft blind")
    assert store.studies.sampling_policies(study) == []
    add_duel(store, study, [1] * 9 + [0])
    assert run("study", "edit", "gated", "--policies", "ppo", "--db", store.path)[0] == 0
    assert [policy.name for policy in store.studies.sampling_policies(study)] == ["ppo"]


def test_exclusion_hours_and_older_guidelines(
    run: Run, store: Store, accounts: dict[str, Annotator], comparisons: dict[int, Comparison]  # noqa: F811
) -> None:  # fmt: skip
    rank(store, accounts["ann"], comparisons[3], 90 * 60 * 1000)
    rank(store, accounts["bea"], comparisons[4], 1000)
    at = ("--db", store.path)
    rows = list(csv.DictReader(io.StringIO(run("study", "hours", *at)[1])))
    assert [(row["annotator"], row["rankings"], row["hours"]) for row in rows] == [
        ("ann", "1", "1.5000"), ("bea", "1", "0.0003"),
    ]  # fmt: skip
    assert run("study", "hours", "--until", "2000-01-01", *at)[1].count("\n") == 1
    refused(run("study", "hours", "--since", "yesterday", *at), "YYYY-MM-DD")
    done = json.loads(run("study", "exclude", "ann", "--reason", "at random", "--json", *at)[1])
    assert done == {"study": "main", "excluded": "ann", "acts": 1}
    assert [ranking.annotator for ranking in store.rankings.current()] == [accounts["bea"].id]
    refused(run("study", "exclude", "ann", "--reason", "again", *at), "already")
    assert run("study", "include", "ann", *at)[0] == 0 and len(store.rankings.current()) == 2
    refused(run("study", "requeue", *at), "guidelines")
    store.studies.set_guideline(store.studies.get("main"), "Be fair.")
    assert json.loads(run("study", "requeue", "--json", *at)[1])["rankings"] == 2
    assert store.rankings.current() == []


def test_gold_is_imported_once(run: Run, store: Store, tmp_path: Path) -> None:  # noqa: F811
    study = store.studies.create("main", plan=PLAIN)
    file = tmp_path / "gold.jsonl"
    gold = {
        "prompt": WHAT, "responses": [{"text": "Two."}, {"text": "Three."}], "ranking": [[1], [0]], "explanation": "3 > 2",
    }  # fmt: skip
    file.write_text(json.dumps(gold) + "\n")
    for _ in range(2):
        assert json.loads(run("study", "gold", file, "--json", "--db", store.path)[1])["total"] == 1
    (made,) = store.golds.all(study)
    texts = [response.text for response in store.responses.get_many(made.tiers[0]).values()]
    assert (texts, made.explanation) == (["Three."], "3 > 2") and store.queue.waiting(study) == 0
    file.write_text(json.dumps({**gold, "ranking": [[0], [1]]}) + "\n")
    refused(run("study", "gold", file, "--db", store.path), "another answer")
    for wrong in (
        {"ranking": [[0]]},
        {"responses": [{"text": "a"}, {"text": "a"}]},
        {"explanation": 1},
        {"prompt": []},
    ):
        file.write_text(json.dumps({**gold, **wrong}) + "\n")
        refused(run("study", "gold", file, "--db", store.path), "line 1")


def test_people_are_invited_and_their_languages_set(
    run: Run, store: Store, accounts: dict[str, Annotator]  # noqa: F811
) -> None:  # fmt: skip
    out = run("people", "invite", "--languages", "de", "--address", "https://rank.example", "--db", store.path,
              stdin="zoe\nyan\n")[1]  # fmt: skip
    assert [line.split("\t")[0] for line in out.splitlines()] == ["zoe", "yan"]
    assert all("\thttps://rank.example/join?token=" in line for line in out.splitlines())
    assert store.annotators.get("zoe").languages == ["de"]
    refused(run("people", "invite", "--db", store.path, stdin=""), "no name")
    refused(run("people", "invite", "--db", store.path, stdin="new one\nann\n"), "already")
    assert store.annotators.find("new one") is None
    shown = json.loads(run("people", "languages", "ann", "en", "fr", "--json", "--db", store.path)[1])
    assert shown["languages"] == ["en", "fr"] == store.annotators.get("ann").languages
    store.studies.create("main", plan=PLAIN)
    assert run("people", "qualify", "ann", "--fail", "--db", store.path)[0] == 0
    assert store.queue.refusal(store.studies.get("main"), accounts["ann"]) == "unqualified"
