"""What is imported, exported and imported into an empty database is the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferences.exchange.columns import ranked_sets
from preferences.exchange.exporting import Kind, export
from preferences.exchange.formats import SETS
from preferences.exchange.importing import import_rankings
from preferences.exchange.views import Source
from preferences.store import Store
from preferences.tables.rankings import Answer
from tests.preferences.exchange.make import ranked_set, write_lines
from tests.preferences.make import add_annotator, take


@st.composite
def ranked_files(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Ranked sets of K = 2..5 responses by two models, whose texts may be equal, by up to three annotators."""
    records = []
    for number in range(draw(st.integers(1, 4))):
        k = draw(st.integers(2, 5))
        texts = draw(st.lists(st.text(max_size=3), min_size=k, max_size=k))
        record = ranked_set(
            texts=tuple(texts), prompt=[{"role": "user", "content": f"{number}: {draw(st.text(max_size=5))}"}]
        )
        for response in record["responses"]:
            response["model"] = draw(st.sampled_from(["m", "n"]))
        for i in range(draw(st.integers(1, 3))):
            levels = draw(st.lists(st.integers(0, 3), min_size=k, max_size=k))
            ranking = [[i for i in range(k) if levels[i] == level] for level in sorted(set(levels))]
            annotation = {"annotator": f"ann{i}", "ranking": ranking}
            if draw(st.integers(0, 4)) == 0:
                annotation.update(ranking=[], verdict="cannot_rank")
            elif draw(st.booleans()):
                annotation["strengths"] = [draw(st.integers(1, 3)) for _ in ranking[1:]]
            annotation["reason"] = draw(st.text(max_size=5))
            marks = st.lists(st.sampled_from(["harmful", "off_topic"]), unique=True)
            annotation["flags"] = draw(st.lists(marks, min_size=k, max_size=k))
            annotation["ratings"] = draw(st.lists(st.none() | st.integers(1, 7), min_size=k, max_size=k))
            annotation["all_bad"] = draw(st.booleans())
            annotation["mode"] = draw(st.sampled_from(["ranking", "best-worst", "pairwise"]))
            if annotation["ranking"] and draw(st.booleans()):
                annotation.update(rewrite="Better.", rewrite_of=ranking[0][0])
            record["annotations"].append(annotation)
        records.append(record)
    return records


Said = dict[tuple[str, str], Any]


def said_in(records: list[dict[str, Any]]) -> Said:
    """(prompt, annotator) -> tiers of (model, text), and whatever else the annotator said."""
    return {
        (json.dumps(record["prompt"]), annotation["annotator"]): (
            [
                sorted((record["responses"][index]["model"], record["responses"][index]["text"]) for index in tier)
                for tier in annotation.get("ranking", [])
            ],
            annotation.get("strengths", []),
            annotation.get("reason", ""),
            annotation.get("rewrite", ""),
            annotation.get("rewrite_of"),
            annotation.get("mode", "ranking"),
            annotation.get("verdict", ""),
            annotation.get("all_bad", False),
            [sorted(marks) for marks in annotation.get("flags") or [] if any(annotation["flags"])],
            [rating for rating in annotation.get("ratings") or [] if any(annotation["ratings"])],
        )
        for record in records
        for annotation in record["annotations"]
    }


@settings(max_examples=30)
@given(ranked_files(), st.sampled_from(["jsonl", "parquet", "dataset"]))
def test_an_export_imports_as_the_same_rankings(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]], kind: Kind
) -> None:
    folder = tmp_path_factory.mktemp("round-trip")
    stores = [Store(folder / name) for name in ("one.db", "two.db")]
    sources = [Source.of(store, store.studies.create("s"), None, names=True) for store in stores]
    path, out = write_lines(folder / "in.jsonl", records), folder / ("out.parquet" if kind == "parquet" else "out")
    import_rankings(stores[0], sources[0].study, path)
    exported = list(ranked_sets(Source.of(stores[0], sources[0].study, None, names=True)))
    assert said_in(exported) == said_in(records)
    assert [[r["text"] for r in record["responses"]] for record in exported] == [
        [r["text"] for r in record["responses"]] for record in records
    ]
    source = Source.of(stores[0], sources[0].study, None, names=True)
    assert export(source, "rankings", out, kind=kind)["records"] == len(records)
    done = import_rankings(stores[1], sources[1].study, out)
    assert done.rankings + done.cannot_rank == len(said_in(records))
    assert done.cannot_rank == sum(bool(verdict) for *_, verdict, _, _, _ in said_in(records).values())
    again = list(ranked_sets(Source.of(stores[1], sources[1].study, None, names=True)))
    assert said_in(again) == said_in(records)
    assert {json.dumps(r["prompt"]): r["split"] for r in again} == {
        json.dumps(r["prompt"]): r["split"] for r in exported
    }
    for store in stores:
        store.close()


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=4))
def test_trl_preferences_carry_pairs_and_strengths(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("trl")
    records = []
    for number, (strength, first) in enumerate(pairs):
        record = ranked_set(texts=("a", "b"), prompt=[{"role": "user", "content": f"{number}?"}])
        ranking = [[0], [1]] if first else [[1], [0]]
        record["annotations"] = [{"annotator": "imported", "ranking": ranking, "strengths": [strength]}]
        for response in record["responses"]:
            response["model"] = "imported"
        records.append(record)
    stores = [Store(folder / name) for name in ("one.db", "two.db")]
    studies = [store.studies.create("s") for store in stores]
    import_rankings(stores[0], studies[0], write_lines(folder / "in.jsonl", records))
    export(Source.of(stores[0], studies[0], None), "trl-preference", folder / "p.jsonl", ("margin",))
    import_rankings(stores[1], studies[1], folder / "p.jsonl", SETS["trl-preference"])
    assert said_in(list(ranked_sets(Source.of(stores[1], studies[1], None, names=True)))) == said_in(records)
    for store in stores:
        store.close()


def test_what_nobody_could_rank_leaves_and_comes_back(store: Store, tmp_path: Path) -> None:
    """A refusal without that verdict, which is about the annotator and not about the set, stays here."""
    study = store.studies.create("s", k=3)
    records = [{**ranked_set(prompt=[{"role": "user", "content": f"{i}?"}]), "annotations": []} for i in range(2)]
    import_rankings(store, study, write_lines(tmp_path / "in.jsonl", records), heldout=0.0)
    ann = add_annotator(store)
    for verdict, reason in (("cannot_rank", "All gibberish."), ("", "Too long for me.")):
        lease = take(store, study, ann)
        assert lease is not None
        store.rankings.skip(ann, Answer(lease.comparison, lease.id, f"nonce {verdict}", reason=reason, verdict=verdict))
    export(Source.of(store, study, None, names=True), "rankings", tmp_path / "out.jsonl")
    other = Store(tmp_path / "other.db")
    copy = other.studies.create("copy")
    for new in (1, 0):
        done = import_rankings(other, copy, tmp_path / "out.jsonl")
        assert (done.comparisons, done.rankings, done.cannot_rank, done.replaced) == (new, 0, new, 0)
    (record,) = ranked_sets(Source.of(other, copy, None, names=True))
    (annotation,) = record["annotations"]
    assert (annotation["verdict"], annotation["ranking"], annotation["reason"]) == ("cannot_rank", [], "All gibberish.")
    assert other.rankings.current() == [] and import_rankings(store, study, tmp_path / "out.jsonl").cannot_rank == 0
    other.close()


def test_what_was_ranked_on_the_board_comes_back_equal(store: Store, tmp_path: Path) -> None:
    """Import, rank as the page does, export, import into an empty database: order, ties, strengths and all the rest."""
    study = store.studies.create("s", k=4, plan={"strengths": True, "rating": True})
    record = {**ranked_set(texts=("a", "b", "c", "d")), "annotations": []}
    import_rankings(store, study, write_lines(tmp_path / "in.jsonl", [record]), heldout=0.0)
    ann = add_annotator(store)
    lease = take(store, study, ann)
    assert lease is not None
    one, two, three, four = lease.order
    answer = Answer(
        lease.comparison, lease.id, "a nonce of its own", [[two], [one, four], [three]], 4321, "Because.",
        strengths=[3, 0], flags={three: ["harmful"]}, ratings={two: 7, three: 1}, rewrite="Better.", rewrite_of=two,
    )  # fmt: skip
    store.rankings.submit(ann, answer)
    export(Source.of(store, study, None, names=True), "rankings", tmp_path / "out.parquet")
    other = Store(tmp_path / "other.db")
    copy = other.studies.create("copy")
    assert import_rankings(other, copy, tmp_path / "out.parquet").rankings == 1
    first, second = (
        list(ranked_sets(Source.of(one, of_one, None, names=True))) for one, of_one in ((store, study), (other, copy))
    )
    assert first[0]["annotations"] == second[0]["annotations"]
    assert first[0]["annotations"][0]["strengths"] == [3, 0] and first[0]["annotations"][0]["active_ms"] == 4321
    assert first[0]["responses"] == second[0]["responses"]
    other.close()
