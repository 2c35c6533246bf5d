"""Files in and out."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferences.errors import BadRecord, RankloopError
from preferences.exchange import (
    check_demonstration,
    check_prompt,
    export,
    import_prompts,
    import_ranked_sets,
    preference_pairs,
    ranked_sets,
    read_jsonl,
)
from preferences.records import Response, Study, Tiers
from preferences.store import Store
from tests.preferences.make import add_annotator, add_comparison, add_policy, add_prompt, rank

ODD = "line\u2028separator, next\u0085line, \U0001f642 and \0 a NUL"
QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]


def write_lines(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def ranked_set(*rankings: list[list[int]], texts: tuple[str, ...] = ("a", "b", "c"), **more: Any) -> dict[str, Any]:
    return {
        "prompt": QUESTION,
        "responses": [{"text": text} for text in texts],
        "annotations": [{"annotator": f"ann{i}", "ranking": ranking} for i, ranking in enumerate(rankings)],
        **more,
    }


def texts_ranked(store: Store, study: Study, **options: Any) -> dict[tuple[str, str], list[list[str]]]:
    """(prompt, annotator) -> the tiers as texts."""
    return {
        (json.dumps(record["prompt"]), annotation["annotator"]): [
            sorted(record["responses"][index]["text"] for index in tier) for tier in annotation["ranking"]
        ]
        for record in ranked_sets(store, study, None, **options)
        for annotation in record["annotations"]
    }


def test_prompts_are_imported_once(store: Store, study: Study, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "p.jsonl", [{"messages": QUESTION}, {"messages": [*QUESTION], "tags": ["x"]}])
    first = import_prompts(store, study, path)
    assert import_prompts(store, study, path) == first
    assert store.prompts.all(study=study.id) == first[:1]


@pytest.mark.parametrize("text", ["", "\n \n\n", "\ufeff\n"])
def test_a_file_without_records_is_refused(store: Store, study: Study, tmp_path: Path, text: str) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadRecord, match=r"empty\.jsonl has no records"):
        import_prompts(store, study, path)


GOOD = json.dumps({"messages": QUESTION})
BAD_PROMPTS = {
    "{": "not valid JSON",
    "[" * 100_000: "not valid JSON",
    "[]": "must be an object",
    "{}": "'messages' must be a list",
    '{"messages": []}': "'messages' must be a list",
    '{"messages": ["hi"]}': "needs a role",
    '{"messages": [{"role": "robot", "content": "hi"}]}': "needs a role",
    '{"messages": [{"role": ["user"], "content": "hi"}]}': "needs a role",
    '{"messages": [{"role": "user"}]}': "needs a content",
    '{"messages": [{"role": "user", "content": " "}]}': "needs a content",
    '{"messages": [{"role": "user", "content": 1}]}': "needs a content",
    '{"messages": [{"role": "system", "content": "hi"}]}': "take turns",
    '{"messages": [{"role": "assistant", "content": "hi"}]}': "take turns",
    '{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}': "take turns",
    '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}': "last the user's",
    '{"messages": [{"role": "user", "content": "\\ud83d"}]}': "surrogate",
    '{"messages": [{"role": "user", "content": "a"}], "tags": "x"}': "'tags'",
    '{"messages": [{"role": "user", "content": "a"}], "tags": [1]}': "'tags'",
    '{"messages": [{"role": "user", "content": "a"}], "source": null}': "'source'",
}


@pytest.mark.parametrize("line", BAD_PROMPTS)
def test_a_bad_prompt_is_named_by_its_line_and_nothing_is_stored(
    store: Store, study: Study, tmp_path: Path, line: str
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(f"{GOOD}\n\n{line}\n{GOOD}\n", encoding="utf-8")
    with pytest.raises(BadRecord, match=rf"p\.jsonl, line 3: .*{BAD_PROMPTS[line]}") as caught:
        import_prompts(store, study, path)
    assert "\n" not in str(caught.value)
    assert store.prompts.all() == []


BAD_SETS = {
    "no prompt": {**ranked_set(), "prompt": None},
    "list": [],
    "one response": ranked_set(texts=("a",)),
    "response without text": {**ranked_set(), "responses": [{"text": "a"}, {"text": 1}]},
    "responses are texts": {**ranked_set(), "responses": ["a", "b"]},
    "annotations are no list": {**ranked_set(), "annotations": None},
    "annotation is no object": {**ranked_set(), "annotations": [1]},
    "no annotator": {**ranked_set(), "annotations": [{"ranking": [[0], [1], [2]]}]},
    "annotator without a name": {**ranked_set(), "annotations": [{"annotator": " ", "ranking": [[0], [1], [2]]}]},
    "no ranking": {**ranked_set(), "annotations": [{"annotator": "x"}]},
    "flat ranking": ranked_set([0, 1, 2]),  # type: ignore[list-item]
    "incomplete": ranked_set([[0], [1]]),
    "twice": ranked_set([[0], [1], [2], [0]]),
    "too far": ranked_set([[0], [1], [3]]),
    "negative": ranked_set([[0], [1], [-1]]),
    "true is not 1": ranked_set([[0], [True], [2]]),
    "text": ranked_set([["0"], [1], [2]]),  # type: ignore[list-item]
    "empty tier": ranked_set([[0], [], [1], [2]]),
    "simulated": {**ranked_set(), "annotations": [{"annotator": "x", "ranking": [[0, 1, 2]], "simulated": 1}]},
    "source": ranked_set(source=1),
}


@pytest.mark.parametrize("name", BAD_SETS)
def test_a_bad_ranked_set_is_named_by_its_line_and_nothing_is_stored(
    store: Store, study: Study, tmp_path: Path, name: str
) -> None:
    path = write_lines(tmp_path / "r.jsonl", [ranked_set([[0], [1], [2]]), BAD_SETS[name]])
    with pytest.raises(BadRecord, match=r"r\.jsonl, line 2: "):
        import_ranked_sets(store, study, path)
    assert {**store.counts.all(), "studies": 0} == dict.fromkeys(store.counts.all(), 0)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match=r"missing\.jsonl cannot be read"):
        read_jsonl(tmp_path / "missing.jsonl", check_prompt)
    (tmp_path / "latin.jsonl").write_bytes(b'{"x": "\xe9"}\n')
    with pytest.raises(BadRecord, match=r"latin\.jsonl cannot be read as UTF-8"):
        read_jsonl(tmp_path / "latin.jsonl", check_prompt)


def test_lines_end_with_a_line_feed_and_nothing_else(tmp_path: Path) -> None:
    """U+2028 and U+0085 may stand in a JSON string as they are; a byte-order mark and Windows line ends do no harm."""
    record = {"messages": [{"role": "user", "content": ODD}, {"role": "assistant", "content": "Yes."}]}
    line = json.dumps(record, ensure_ascii=False)
    (tmp_path / "d.jsonl").write_bytes(f"\ufeff{line}\r\n{line}".encode())
    assert read_jsonl(tmp_path / "d.jsonl", check_demonstration) == [record, record]


def test_importing_twice_adds_nothing(store: Store, study: Study, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.jsonl", [ranked_set([[0], [1, 2]], [[2], [1], [0]])])
    assert import_ranked_sets(store, study, path) == 2
    counts = store.counts.all()
    assert import_ranked_sets(store, study, path) == 0
    assert store.counts.all() == counts


def test_of_equal_texts_the_best_placed_one_counts(store: Store, study: Study, tmp_path: Path) -> None:
    texts = ("a", "b", "a", "c", "c")
    import_ranked_sets(
        store, study, write_lines(tmp_path / "r.jsonl", [ranked_set([[0], [3, 4], [1], [2]], texts=texts)])
    )
    assert list(texts_ranked(store, study).values()) == [[["a"], ["c"], ["b"]]]
    nothing = ranked_set([[0], [1], [2]], texts=("a", "a", "a"))
    assert import_ranked_sets(store, study, write_lines(tmp_path / "same.jsonl", [nothing])) == 0


def test_a_name_that_is_simulated_here_and_a_person_there_is_refused(
    store: Store, study: Study, tmp_path: Path
) -> None:
    """Else a simulated judge's rankings would be exported as a person's."""
    add_annotator(store, "judge")
    record = ranked_set()
    record["annotations"] = [{"annotator": "judge", "ranking": [[0], [1], [2]], "simulated": True}]
    with pytest.raises(BadRecord, match="'judge' is simulated in the file and a person in the database"):
        import_ranked_sets(store, study, write_lines(tmp_path / "r.jsonl", [record]))
    assert store.prompts.all() == []


@st.composite
def ranked_files(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Ranked sets of K = 2..5 different texts by up to three annotators."""
    records = []
    for number in range(draw(st.integers(1, 4))):
        k = draw(st.integers(2, 5))
        texts = draw(st.lists(st.text(max_size=5), min_size=k, max_size=k, unique=True))
        rankings = []
        for _ in range(draw(st.integers(1, 3))):
            levels = draw(st.lists(st.integers(0, 3), min_size=k, max_size=k))
            rankings.append([[i for i in range(k) if levels[i] == level] for level in sorted(set(levels))])
        prompt = [{"role": "user", "content": f"{number}: {draw(st.text(max_size=5))}"}]
        records.append({**ranked_set(*rankings, texts=tuple(texts)), "prompt": prompt})
    return records


@settings(max_examples=30)
@given(ranked_files())
def test_an_export_imports_as_the_same_rankings(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("round-trip")
    stores = [Store(folder / name) for name in ("one.db", "two.db")]
    studies = [store.studies.create("s") for store in stores]
    import_ranked_sets(stores[0], studies[0], write_lines(folder / "in.jsonl", records))
    expected = {
        (json.dumps(record["prompt"]), annotation["annotator"]): [
            sorted(record["responses"][index]["text"] for index in tier) for tier in annotation["ranking"]
        ]
        for record in records
        for annotation in record["annotations"]
    }
    assert texts_ranked(stores[0], studies[0]) == expected
    done = export(stores[0], studies[0], "jsonl", folder / "out.jsonl", split=None)
    assert done["records"] == len(records)
    assert import_ranked_sets(stores[1], studies[1], folder / "out.jsonl") == len(expected)
    assert texts_ranked(stores[1], studies[1]) == expected
    for store in stores:
        store.close()


@pytest.fixture
def two_policies(store: Store, study: Study) -> Study:
    """A comparison whose "yes" both policies said, ranked by ann and by a simulated judge."""
    prompt, sft, ppo = add_prompt(store, ODD), add_policy(store, "sft"), add_policy(store, "ppo")
    responses = [
        Response.make(prompt.id, policy.id, text, 7, index, temperature=0.8, max_new_tokens=64)
        for index, (policy, text) in enumerate(((sft, "yes"), (ppo, "yes"), (sft, ODD), (ppo, "no")))
    ]
    store.responses.add(responses)
    assert store.comparisons.add(study, prompt.id, responses) is not None
    rank(store, study, add_annotator(store, "ann"))
    rank(store, study, add_annotator(store, "judge", simulated=True))
    return study


@pytest.fixture
def study(store: Store) -> Study:
    return store.studies.create("main", plan={"labels_train": 3})


def test_an_exported_set_says_where_each_response_came_from(store: Store, two_policies: Study) -> None:
    (record,) = ranked_sets(store, two_policies, "train")
    yes, odd, no = record["responses"]
    assert (yes["text"], odd["text"], no["text"]) == ("yes", ODD, "no")
    assert [sample["policy"] for sample in yes["samples"]] == ["sft", "ppo"]
    assert no["samples"] == [{
        "policy": "ppo", "seed": 7, "sample_index": 3, "temperature": 0.8, "top_p": 1.0, "max_new_tokens": 64,
        "finish_reason": "stop",
    }]  # fmt: skip
    (annotation,) = record["annotations"]
    assert (annotation["annotator"], annotation["shown"]) == ("ann", [2, 1, 0])
    assert annotation["ranking"] == [[2], [1], [0]]


def test_simulated_rankings_leave_only_when_asked_for_and_stay_marked(
    store: Store, two_policies: Study, tmp_path: Path
) -> None:
    export(store, two_policies, "jsonl", tmp_path / "all.jsonl", simulated=True)
    other = Store(tmp_path / "other.db")
    copy = other.studies.create("copy")
    assert import_ranked_sets(other, copy, tmp_path / "all.jsonl") == 2
    assert [annotator for _, annotator in texts_ranked(other, copy)] == ["ann"]
    assert [annotator for _, annotator in texts_ranked(other, copy, simulated=True)] == ["ann", "judge"]
    other.close()


def test_the_trl_preference_export_loads(store: Store, two_policies: Study, tmp_path: Path) -> None:
    done = export(store, two_policies, "trl-preference", tmp_path / "p.jsonl")
    assert done == {"format": "trl-preference", "out": str(tmp_path / "p.jsonl"), "records": 3, "split": "train"}
    loaded = datasets.load_dataset(
        "json", data_files=str(tmp_path / "p.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.column_names == ["prompt", "chosen", "rejected"]
    assert {row["prompt"][0]["content"] for row in loaded} == {ODD}
    assert {(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in loaded} == {
        ("no", ODD), ("no", "yes"), (ODD, "yes")
    }  # fmt: skip


def test_pairs_are_what_a_majority_said(store: Store, study: Study) -> None:
    """2 of 3 is a majority; one against one, or a tie, is none."""
    comparison = add_comparison(store, study, texts=("a", "b", "c"))
    a, b, c = comparison.items
    votes: list[Tiers] = [[[a], [b], [c]], [[a], [c], [b]], [[b], [a, c]]]
    for number, tiers in enumerate(votes):
        store.rankings.add_imported(add_annotator(store, f"ann{number}"), comparison, tiers)
    found = {(p["chosen"][0]["content"], p["rejected"][0]["content"]) for p in preference_pairs(store, study, None)}
    assert found == {("a", "b"), ("a", "c"), ("b", "c")}
    store.rankings.add_imported(add_annotator(store, "ann3"), comparison, [[c], [b], [a]])
    found = {(p["chosen"][0]["content"], p["rejected"][0]["content"]) for p in preference_pairs(store, study, None)}
    assert found == {("a", "c")}


def test_each_split_is_exported_by_itself(store: Store, study: Study, tmp_path: Path) -> None:
    for share, question in ((0.0, "train on this"), (1.0, "hold that out")):
        add_prompt(store, question, heldout=share)
        comparison = add_comparison(store, study, question)
        ann = store.annotators.find("ann") or add_annotator(store)
        store.rankings.add_imported(ann, comparison, [[item] for item in comparison.items])
    counts = {
        split: export(store, study, "jsonl", tmp_path / "x", split)["records"] for split in ("train", "heldout", None)
    }
    assert counts == {"train": 1, "heldout": 1, None: 2}


def test_an_empty_export_is_an_error_and_leaves_what_was_there(store: Store, study: Study, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("earlier")
    comparison = add_comparison(store, study)
    robot = add_annotator(store, "robot", simulated=True)
    store.rankings.add_imported(robot, comparison, [comparison.items])
    with pytest.raises(RankloopError, match=r"no ranking to export from split train .*--include-simulated"):
        export(store, study, "jsonl", out)
    assert out.read_text() == "earlier"
    assert {path.name for path in tmp_path.iterdir() if "out" in path.name} == {"out.jsonl"}


@pytest.mark.parametrize("out", ["no/such/folder/x.jsonl", "."])
def test_an_output_that_cannot_be_written_is_named(
    store: Store, two_policies: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RankloopError, match="cannot be written"):
        export(store, two_policies, "jsonl", Path(out))
    assert {path.name for path in tmp_path.iterdir()} <= {"rankloop.db", "rankloop.db-wal", "rankloop.db-shm"}


@pytest.mark.parametrize(
    ("name", "sets", "rankings", "largest"),
    [
        ("finegrained_qa_k4", 400, 400, 4),
        ("oasst_en100_ranked", 154, 154, 9),
        ("lamp_writers_k3_x3", 141, 423, 3),
    ],
)
def test_real_human_rankings(
    real_data: Path, store: Store, study: Study, tmp_path: Path, name: str, sets: int, rankings: int, largest: int
) -> None:
    path = real_data / "rankings" / f"{name}.jsonl"
    assert import_ranked_sets(store, study, path) == rankings
    assert import_ranked_sets(store, study, path) == 0
    counts = store.counts.all()
    assert (counts["comparisons"], counts["rankings"]) == (sets, rankings)
    assert max(len(comparison.items) for comparison in store.comparisons.all()) <= largest
    exported = texts_ranked(store, study)
    export(store, study, "jsonl", tmp_path / "out.jsonl", split=None)
    other = Store(tmp_path / "other.db")
    copy = other.studies.create("copy")
    assert import_ranked_sets(other, copy, tmp_path / "out.jsonl") == rankings
    assert texts_ranked(other, copy) == exported
    other.close()
