"""Ranked sets and prompts into a study."""

import csv
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from preferences.errors import BadRecord
from preferences.exchange import importing, reading
from preferences.exchange.columns import ranked_sets
from preferences.exchange.exporting import export
from preferences.exchange.importing import import_prompts, import_rankings
from preferences.exchange.views import Source
from preferences.records import Study
from preferences.store import Store
from tests.preferences.exchange.make import QUESTION, ranked_set, texts_ranked, write_lines
from tests.preferences.make import add_annotator


def test_prompts_are_imported_once(store: Store, study: Study, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "p.jsonl", [{"messages": QUESTION}, {"messages": [*QUESTION], "tags": ["x"]}])
    first = import_prompts(store, study, path)
    stored = store.prompts.all(study=study.id)
    assert (first.new_prompts, first.prompts, len(stored)) == (1, 1, 1)
    again = import_prompts(store, study, path)
    assert (again.new_prompts, again.prompts) == (0, 1)
    assert store.prompts.all() == stored


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


@pytest.mark.security
@pytest.mark.smoke
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
    "response of null": {**ranked_set(), "responses": [{"text": "a"}, {"text": None}]},
    "response is a list": {**ranked_set(), "responses": [{"text": "a"}, {"text": ["b"]}]},
    "ten responses": ranked_set(texts=tuple("abcdefghij")),
    "model is a number": {**ranked_set(), "responses": [{"text": "a", "model": 1}, {"text": "b"}]},
    "seed is a text": {**ranked_set(), "responses": [{"text": "a", "seed": "1"}, {"text": "b"}]},
    "seed too large": {**ranked_set(), "responses": [{"text": "a", "seed": 2**63}, {"text": "b"}]},
    "temperature is no number": {**ranked_set(), "responses": [{"text": "a", "temperature": float("nan")}, {"text": "b"}]},
    "temperature too large": {**ranked_set(), "responses": [{"text": "a", "temperature": 10**400}, {"text": "b"}]},
    "in milliseconds": {**ranked_set(), "annotations": [{"annotator": "x", "ranking": [[0, 1, 2]], "created": 1.7e12}]},
    "same as itself": {**ranked_set(), "responses": [{"text": "a", "same_as": 0}, {"text": "b"}]},
    "same as another text": {**ranked_set(), "responses": [{"text": "a"}, {"text": "b", "same_as": 0}]},
    "pair of three": ranked_set([[0], [1], [2]], pairwise=[[0, 1]]),
    "pair of one": ranked_set([[0], [1], [2]], pairwise=[[1, 1, 0]]),
    "label": ranked_set([[0], [1], [2]], pairwise=[[0, 1, 3]]),
    "two labels": ranked_set([[0], [1], [2]], pairwise=[[0, 1, 1], [1, 0, 1]]),
    "whose pairs": ranked_set([[0], [1], [2]], [[0], [1], [2]], pairwise=[[0, 1, 1]]),
    "flags": {**ranked_set(), "annotations": [{"annotator": "x", "ranking": [[0, 1, 2]], "flags": [[]]}]},
    "ratings": {**ranked_set(), "annotations": [{"annotator": "x", "ranking": [[0, 1, 2]], "ratings": [1, 2, 8]}]},
    "rewrite of": {**ranked_set(), "annotations": [{"annotator": "x", "ranking": [[0, 1, 2]], "rewrite_of": 3}]},
    "mode": {**ranked_set(), "annotations": [{"annotator": "x", "ranking": [[0, 1, 2]], "mode": "other"}]},
    "shown": {**ranked_set(), "annotations": [{"annotator": "x", "ranking": [[0, 1, 2]], "shown": [0, 0]}]},
    "split": ranked_set(split="test"),
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
    "a verdict with a ranking": {
        **ranked_set(), "annotations": [{"annotator": "x", "ranking": [[0, 1, 2]], "verdict": "cannot_rank"}]
    },
    "an unknown verdict": {**ranked_set(), "annotations": [{"annotator": "x", "verdict": "boring"}]},
}  # fmt: skip


@pytest.mark.security
@pytest.mark.smoke
@pytest.mark.parametrize("name", BAD_SETS)
def test_a_bad_ranked_set_is_named_by_its_line_and_nothing_is_stored(
    store: Store, study: Study, tmp_path: Path, name: str
) -> None:
    path = write_lines(tmp_path / "r.jsonl", [ranked_set([[0], [1], [2]]), BAD_SETS[name]])
    with pytest.raises(BadRecord, match=r"r\.jsonl, line 2: "):
        import_rankings(store, study, path)
    assert {**store.counts.all(), "studies": 0} == dict.fromkeys(store.counts.all(), 0)


def test_importing_twice_adds_nothing(store: Store, study: Study, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "r.jsonl", [ranked_set([[0], [1, 2]], [[2], [1], [0]])])
    assert import_rankings(store, study, path).rankings == 2
    counts = store.counts.all()
    assert import_rankings(store, study, path).rankings == 0
    assert store.counts.all() == counts


def test_a_person_may_put_equal_texts_apart(store: Store, study: Study, tmp_path: Path) -> None:
    """Two models can give one answer; each of them has the rank that it was given."""
    record = ranked_set([[0], [3], [1], [2]], texts=("a", "b", "a", "c"))
    for response, model in zip(record["responses"], ("m", "m", "n", "m"), strict=True):
        response["model"] = model
    assert import_rankings(store, study, write_lines(tmp_path / "r.jsonl", [record])).rankings == 1
    assert list(texts_ranked(store, study).values()) == [[["a"], ["c"], ["b"], ["a"]]]
    (comparison,) = store.comparisons.all()
    responses = store.responses.get_many(comparison.items)
    names = {policy.id: policy.name for policy in store.policies.all()}
    assert [names[responses[item].policy] for item in comparison.items] == ["m", "m", "n", "m"]
    same_model = ranked_set([[0], [1], [2]], texts=("a", "a", "a"), prompt=[{"role": "user", "content": "Other?"}])
    assert import_rankings(store, study, write_lines(tmp_path / "s.jsonl", [same_model])).rankings == 1
    assert list(texts_ranked(store, study).values())[1] == [["a"], ["a"], ["a"]]


def test_equal_texts_that_nobody_ranked_are_shown_once(store: Store, study: Study, tmp_path: Path) -> None:
    record = {**ranked_set(texts=("a", "b", "a")), "annotations": []}
    assert import_rankings(store, study, write_lines(tmp_path / "r.jsonl", [record])).comparisons == 1
    (comparison,) = store.comparisons.all()
    assert (len(comparison.items), len(comparison.same)) == (2, 3)


def test_sets_of_one_answer_are_told_apart_by_their_ids(store: Store, study: Study, tmp_path: Path) -> None:
    """Else the second of two records that say the opposite would replace the first."""
    records = [ranked_set([[0], [1], [2]], id="one"), ranked_set([[2], [1], [0]], id="two")]
    done = import_rankings(store, study, write_lines(tmp_path / "r.jsonl", records))
    assert (done.comparisons, done.rankings, done.replaced) == (2, 2, 0)
    assert store.counts.all()["responses"] == 3
    records = [ranked_set([[0], [1], [2]]), ranked_set([[2], [1], [0]])]
    done = import_rankings(store, study, write_lines(tmp_path / "r.jsonl", records))
    assert (done.comparisons, done.rankings, done.replaced) == (1, 2, 1)


def test_the_order_of_a_record_is_kept(store: Store, study: Study, tmp_path: Path) -> None:
    record = ranked_set([[2], [0], [1]], texts=("z", "a", "m"))
    import_rankings(store, study, write_lines(tmp_path / "r.jsonl", [record]))
    (comparison,) = store.comparisons.all()
    assert [store.responses.get_many([item])[item].text for item in comparison.items] == ["z", "a", "m"]


CYCLE = [[0, 1, 1], [1, 2, 1], [0, 2, 2]]


def test_pairs_that_fit_a_ranking_become_it(store: Store, study: Study, tmp_path: Path) -> None:
    """`ranking` beside them is only a forced order."""
    tied = [[0, 1, 1], [2, 0, 0], [2, 1, 1]]
    record = ranked_set([[0], [2], [1]], pairwise=tied, transitive=True)
    done = import_rankings(store, study, write_lines(tmp_path / "r.jsonl", [record]))
    assert (done.comparisons, done.intransitive) == (1, 0)
    assert list(texts_ranked(store, study).values()) == [[["a", "c"], ["b"]]]


def test_pairs_that_fit_no_ranking_stay_pairs_and_are_reported(store: Store, study: Study, tmp_path: Path) -> None:
    records = [
        ranked_set([[0], [1], [2]], pairwise=CYCLE, id="cycle"),
        ranked_set([[0], [1], [2]], pairwise=CYCLE[:2], id="part"),
    ]
    path = write_lines(tmp_path / "r.jsonl", records)
    done = import_rankings(store, study, path)
    assert (done.comparisons, done.rankings, done.intransitive, done.incomplete) == (5, 5, 1, 1)
    said = sorted(
        [record["responses"][i]["text"] for tier in record["annotations"][0]["ranking"] for i in tier]
        for record in ranked_sets(Source.of(store, study, None))
    )
    assert said == [["a", "b"], ["a", "b"], ["b", "c"], ["b", "c"], ["c", "a"]]
    assert import_rankings(store, study, path).rankings == 0


def test_what_others_ranked_stays_beside_pairs(store: Store, study: Study, tmp_path: Path) -> None:
    record = ranked_set([[0], [1], [2]])
    record["annotations"].append({"annotator": "b", "pairwise": CYCLE})
    done = import_rankings(store, study, write_lines(tmp_path / "r.jsonl", [record]))
    assert (done.comparisons, done.rankings, done.intransitive) == (4, 4, 1)


def test_bad_records_are_skipped_and_counted_when_asked(store: Store, study: Study, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    good = [json.dumps(ranked_set([[0], [1], [2]], id=str(n))) for n in range(2)]
    path.write_text("\n".join([good[0], "{", json.dumps(ranked_set([[0]])), good[1]]))
    done = import_rankings(store, study, path, skip_bad=True)
    assert (done.rankings, done.skipped) == (2, 2)
    assert "line 2: not valid JSON" in done.problems[0] and "line 3: 'ranking'" in done.problems[1]


def peak(path: Path, folder: Path) -> int:
    """Bytes of Python's that importing the file takes at once."""
    store = Store(folder / f"{path.name}.db")
    study = store.studies.create("s")
    tracemalloc.start()
    try:
        import_rankings(store, study, path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        store.close()


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(importing, "CHUNK", 20)
    monkeypatch.setattr(reading, "BATCH", 20)
    monkeypatch.setattr(reading, "CHUNK", 1 << 12)

    def write(name: str, count: int) -> Path:
        records = [
            {**ranked_set([[0], [1]], texts=(f"{n}" * 500, "b")), "prompt": [{"role": "user", "content": f"{n} {n}"}]}
            for n in range(count)
        ]
        path = tmp_path / f"{name}.{kind}"
        if kind == "jsonl":
            return write_lines(path, records)
        if kind == "json":
            path.write_text(json.dumps(records))
        elif kind == "csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(records[0]))
                writer.writeheader()
                writer.writerows({name: json.dumps(v) for name, v in record.items()} for record in records)
        else:
            parquet.write_table(pa.Table.from_pylist(records), path)
        return path

    peak(write("warm", 20), tmp_path)  # what is made once
    assert peak(write("large", 600), tmp_path) < 1.3 * peak(write("small", 60), tmp_path)


def test_a_split_that_the_file_gives_is_kept(store: Store, study: Study, tmp_path: Path) -> None:
    records = [
        {"messages": [{"role": "user", "content": f"Question {word}"}], "split": split}
        for word, split in (("one", "heldout"), ("two", "train"), ("three", "heldout"))
    ]
    import_prompts(store, study, write_lines(tmp_path / "p.jsonl", records))
    assert [prompt.split for prompt in store.prompts.all()] == ["heldout", "train", "heldout"]
    twin = {"messages": [{"role": "user", "content": "Question ONE!"}], "split": "train"}
    import_prompts(store, study, write_lines(tmp_path / "q.jsonl", [twin]))
    assert store.prompts.all()[-1].split == "heldout"  # a twin of its is there already


def test_an_export_that_comes_back_changes_nothing(store: Store, study: Study, tmp_path: Path) -> None:
    """It names people by pseudonyms, and comparisons by their own ids."""
    import_rankings(store, study, write_lines(tmp_path / "r.jsonl", [ranked_set([[0], [1, 2]], [[1, 2], [0]], id="x")]))
    before = store.counts.all()
    export(Source.of(store, study, None), "rankings", tmp_path / "out.jsonl")
    assert "ann0" not in (tmp_path / "out.jsonl").read_text()
    done = import_rankings(store, study, tmp_path / "out.jsonl")
    assert (done.rankings, done.comparisons, store.counts.all()) == (0, 0, before)


def test_a_name_that_is_simulated_here_and_a_person_there_is_refused(
    store: Store, study: Study, tmp_path: Path
) -> None:
    """Else a simulated judge's rankings would be exported as a person's."""
    add_annotator(store, "judge")
    record = ranked_set()
    record["annotations"] = [{"annotator": "judge", "ranking": [[0], [1], [2]], "simulated": True}]
    with pytest.raises(BadRecord, match="'judge' is simulated in the file and a person in the database"):
        import_rankings(store, study, write_lines(tmp_path / "r.jsonl", [record]))
    assert store.prompts.all() == []


@pytest.mark.parametrize(
    ("name", "sets", "rankings", "intransitive"),
    [
        ("finegrained_qa_k4.jsonl", 381 + 19 * 6, 381 + 19 * 6, 19),
        ("oasst_en100_ranked.jsonl", 154, 154, 0),
        ("lamp_writers_k3_x3.jsonl", 141, 423, 0),
        ("llmfao_pairs_x5.jsonl", 1637, 6852, 0),
    ],
)
def test_real_human_rankings(
    real_data: Path, store: Store, study: Study, tmp_path: Path, name: str, sets: int, rankings: int, intransitive: int
) -> None:
    path = real_data / "rankings" / name
    done = import_rankings(store, study, path)
    assert (done.comparisons, done.rankings, done.replaced) == (sets, rankings, 0)
    assert done.intransitive == intransitive
    again = import_rankings(store, study, path)
    assert (again.comparisons, again.rankings) == (0, 0)
    exported = texts_ranked(store, study)
    export(Source.of(store, study, None, names=True), "rankings", tmp_path / "out.jsonl")
    other = Store(tmp_path / "other.db")
    copy = other.studies.create("copy")
    assert import_rankings(other, copy, tmp_path / "out.jsonl").rankings == rankings
    assert texts_ranked(other, copy) == exported
    assert {policy.name for policy in other.policies.all()} == {policy.name for policy in store.policies.all()}
    other.close()
