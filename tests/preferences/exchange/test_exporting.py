"""Files out."""

from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import DatasetCard

from preferences.errors import RankloopError
from preferences.exchange.card import agreement_table
from preferences.exchange.checks import check_demonstration
from preferences.exchange.columns import ranked_sets
from preferences.exchange.exporting import Kind, export, push, records
from preferences.exchange.importing import import_rankings
from preferences.exchange.reading import without_nulls
from preferences.exchange.views import Source, demonstrations, preference_pairs, unpaired
from preferences.records import Response, Study, Tiers
from preferences.store import Store
from tests.preferences.exchange.make import ODD, ranked_set, texts_ranked, write_lines
from tests.preferences.make import add_annotator, add_comparison, add_policy, add_prompt, rank


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
    store.studies.add_prompts(study, [prompt])
    return study


@pytest.fixture
def study(store: Store) -> Study:
    return store.studies.create("main", plan={"labels_train": 3})


def test_an_exported_set_says_where_each_response_came_from(store: Store, two_policies: Study) -> None:
    (record,) = ranked_sets(Source.of(store, two_policies, "train"))
    assert [(response["text"], response["model"], response["same_as"]) for response in record["responses"]] == [
        ("yes", "sft", None), ("yes", "ppo", 0), (ODD, "sft", None), ("no", "ppo", None)
    ]  # fmt: skip
    assert record["responses"][3] == {
        "text": "no", "model": "ppo", "seed": 7, "sample_index": 3, "temperature": 0.8, "top_p": 1.0,
        "max_new_tokens": 64, "finish_reason": "stop", "tokens": 0, "template_hash": "", "same_as": None,
    }  # fmt: skip
    (annotation,) = record["annotations"]
    assert annotation["shown"] == [3, 2, 0]
    assert annotation["ranking"] == [[3], [2], [0, 1]]


@pytest.mark.security
@pytest.mark.smoke
def test_annotators_have_a_pseudonym_of_the_study_unless_asked_otherwise(store: Store, two_policies: Study) -> None:
    def names(study: Study, **options: bool) -> set[str]:
        sets = ranked_sets(Source.of(store, study, None, simulated=True, **options))
        return {annotation["annotator"] for record in sets for annotation in record["annotations"]}

    assert names(two_policies, names=True) == {"ann", "judge"}
    hidden = names(two_policies)
    assert hidden == names(two_policies) and len(hidden) == 2 and not hidden & {"ann", "judge"}
    other = store.studies.create("other")
    prompt = add_prompt(store, ODD)
    assert store.comparisons.add(other, prompt.id, store.responses.of_prompt(prompt.id)) is not None
    rank(store, other, store.annotators.get("ann"))
    assert not names(other) & hidden


def test_simulated_rankings_leave_only_when_asked_for_and_stay_marked(
    store: Store, two_policies: Study, tmp_path: Path
) -> None:
    export(Source.of(store, two_policies, "train", simulated=True, names=True), "rankings", tmp_path / "all.jsonl")
    other = Store(tmp_path / "other.db")
    copy = other.studies.create("copy")
    assert import_rankings(other, copy, tmp_path / "all.jsonl").rankings == 2
    assert [annotator for _, annotator in texts_ranked(other, copy)] == ["ann"]
    assert [annotator for _, annotator in texts_ranked(other, copy, simulated=True)] == ["ann", "judge"]
    other.close()


def test_the_trl_preference_export_loads(store: Store, two_policies: Study, tmp_path: Path) -> None:
    done = export(Source.of(store, two_policies, "train"), "trl-preference", tmp_path / "p.jsonl")
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
    found = {
        (p["chosen"][0]["content"], p["rejected"][0]["content"])
        for p in preference_pairs(Source.of(store, study, None))
    }
    assert found == {("a", "b"), ("a", "c"), ("b", "c")}
    store.rankings.add_imported(add_annotator(store, "ann3"), comparison, [[c], [b], [a]])
    found = {
        (p["chosen"][0]["content"], p["rejected"][0]["content"])
        for p in preference_pairs(Source.of(store, study, None))
    }
    assert found == {("a", "c")}


def rank_one_of_each_split(store: Store, study: Study) -> None:
    ann = add_annotator(store)
    for share, question in ((0.0, "train on this"), (1.0, "hold that out")):
        add_prompt(store, question, heldout=share)
        comparison = add_comparison(store, study, question)
        store.rankings.add_imported(ann, comparison, [[item] for item in comparison.items])


def test_each_split_is_exported_by_itself(store: Store, study: Study, tmp_path: Path) -> None:
    rank_one_of_each_split(store, study)
    counts = {
        split: export(Source.of(store, study, split), "rankings", tmp_path / "x")["records"]
        for split in ("train", "heldout", None)
    }
    assert counts == {"train": 1, "heldout": 1, None: 2}


def test_an_empty_export_is_an_error_and_leaves_what_was_there(store: Store, study: Study, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("earlier")
    comparison = add_comparison(store, study)
    robot = add_annotator(store, "robot", simulated=True)
    store.rankings.add_imported(robot, comparison, [comparison.items])
    with pytest.raises(RankloopError, match=r"no ranking to export from split train .*--include-simulated"):
        export(Source.of(store, study, "train"), "rankings", out)
    assert out.read_text() == "earlier"
    assert {path.name for path in tmp_path.iterdir() if "out" in path.name} == {"out.jsonl"}


@pytest.mark.parametrize("out", ["no/such/folder/x.jsonl", "."])
def test_an_output_that_cannot_be_written_is_named(
    store: Store, two_policies: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RankloopError, match="cannot be written"):
        export(Source.of(store, two_policies, "train"), "rankings", Path(out))
    assert {path.name for path in tmp_path.iterdir()} <= {"rankloop.db", "rankloop.db-wal", "rankloop.db-shm"}


def import_one(store: Store, study: Study, folder: Path, *annotations: dict[str, Any], **more: Any) -> None:
    """One set of "a", "b", "c" with these annotations."""
    record = ranked_set(**more)
    record["annotations"] = [{"annotator": f"ann{i}", **annotation} for i, annotation in enumerate(annotations)]
    import_rankings(store, study, write_lines(folder / "in.jsonl", [record]), heldout=0.0)


def texts(record: dict[str, Any]) -> tuple[Any, ...]:
    """A pair, an answer or a conversation as its texts."""
    return tuple(
        value[-1]["content"] if isinstance(value, list) else round(value, 3) if isinstance(value, float) else value
        for name, value in record.items()
        if name in ("chosen", "rejected", "completion", "label", "margin", "soft_label", "kind")
    )


def test_margins_are_summed_strengths_and_soft_labels_are_shares(store: Store, study: Study, tmp_path: Path) -> None:
    import_one(
        store, study, tmp_path,
        {"ranking": [[0], [1], [2]], "strengths": [3, 1]},
        {"ranking": [[0], [1], [2]], "strengths": [1, 1]},
        {"ranking": [[1], [0], [2]]},
    )  # fmt: skip
    found = {texts(pair) for pair in preference_pairs(Source.of(store, study, None))}
    assert found == {("a", "b", 2.0, 0.667), ("a", "c", 3.0, 1.0), ("b", "c", 1.0, 1.0)}


def test_unpaired_answers_come_from_flags_and_the_best_tier(store: Store, study: Study, tmp_path: Path) -> None:
    import_one(
        store, study, tmp_path,
        {"ranking": [[0], [1], [2]], "flags": [[], ["harmful"], []]},
        {"ranking": [[0, 2], [1]]},
        {"ranking": [[0], [2], [1]], "flags": [[], ["off_topic"], []]},
    )  # fmt: skip
    assert {texts(record) for record in unpaired(Source.of(store, study, None))} == {("a", True), ("b", False)}


def test_an_answer_that_anyone_flagged_is_not_acceptable(store: Store, study: Study, tmp_path: Path) -> None:
    first = {"ranking": [[0], [1], [2]], "flags": [["harmful"], [], []]}
    import_one(store, study, tmp_path, first, {"ranking": [[0], [1], [2]]}, {"ranking": [[0], [1], [2]]})
    assert list(unpaired(Source.of(store, study, None))) == []
    assert list(demonstrations(Source.of(store, study, None))) == []


def test_all_bad_says_no_order_and_nothing_acceptable(store: Store, study: Study, tmp_path: Path) -> None:
    import_one(store, study, tmp_path, {"ranking": [[0, 1, 2]], "all_bad": True}, {"ranking": [[0], [1], [2]]})
    source = Source.of(store, study, None)
    assert {texts(record) for record in unpaired(source)} == {("a", False), ("b", False), ("c", False)}
    assert {texts(pair)[:2] for pair in preference_pairs(source)} == {("a", "b"), ("a", "c"), ("b", "c")}
    assert list(demonstrations(source)) == []


def test_demonstrations_are_rewrites_else_top_answers(store: Store, study: Study, tmp_path: Path) -> None:
    import_one(
        store, study, tmp_path, {"ranking": [[1], [0], [2]]}, {"ranking": [[1], [2], [0]]}, {"ranking": [[0, 1, 2]]}
    )
    other = [{"role": "user", "content": "And the sea?"}]
    rewritten = {"ranking": [[0], [1], [2]], "rewrite": "Better."}
    import_one(store, study, tmp_path, rewritten, {"ranking": [[0], [1], [2]]}, prompt=other)
    split = [{"role": "user", "content": "And what of the grass?"}]
    import_one(store, study, tmp_path, {"ranking": [[0], [1], [2]]}, {"ranking": [[1], [0], [2]]}, prompt=split)
    found = list(demonstrations(Source.of(store, study, None)))
    assert [(record["kind"], record["messages"][-1]["content"]) for record in found] == [
        ("top", "b"),
        ("rewrite", "Better."),
    ]
    for record in found:
        check_demonstration(record)


FORMATS_OF = {
    "rankings": ["id", "split", "source", "language", "tags", "prompt", "responses", "annotations"],
    "trl-preference": ["prompt", "chosen", "rejected"],
    "trl-unpaired": ["prompt", "completion", "label"],
    "sft": ["messages", "kind"],
    "prompts": ["messages", "source", "language", "tags", "split"],
}


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "dataset"])
@pytest.mark.parametrize("name", FORMATS_OF)
def test_every_format_in_every_kind_of_file(
    store: Store, two_policies: Study, tmp_path: Path, name: str, kind: Kind
) -> None:
    source, out = Source.of(store, two_policies, "train"), tmp_path / "out"
    done = export(source, name, out, kind=kind)
    assert done["records"] > 0
    if kind == "dataset":
        loaded = datasets.load_from_disk(str(out))["train"]
        assert (out / "README.md").read_text().startswith("---\nlicense: ")
    else:
        loaded = datasets.load_dataset(
            "json" if kind == "jsonl" else "parquet", data_files=str(out), split="train", cache_dir=str(tmp_path / "c")
        )
    assert (len(loaded), loaded.column_names) == (done["records"], FORMATS_OF[name])
    expected = list(records(source, name, ()))
    assert [without_nulls(row) for row in loaded.to_list()] == [without_nulls(record) for record in expected]


def test_a_dataset_has_both_splits_and_names_the_optional_columns(store: Store, study: Study, tmp_path: Path) -> None:
    rank_one_of_each_split(store, study)
    out = tmp_path / "both"
    export(Source.of(store, study, None), "trl-preference", out, ("margin", "soft_label"), "dataset")
    loaded = datasets.load_from_disk(str(out))
    assert {split: len(part) for split, part in loaded.items()} == {"train": 6, "heldout": 6}
    assert loaded["train"].column_names == ["prompt", "chosen", "rejected", "margin", "soft_label"]
    with pytest.raises(RankloopError, match=r"both cannot be written .*not empty"):
        export(Source.of(store, study, None), "trl-preference", out, kind="dataset")
    with pytest.raises(RankloopError, match="no optional column 'margin'"):
        export(Source.of(store, study, None), "prompts", tmp_path / "p.jsonl", ("margin",))


def test_the_card_says_what_is_in_it(store: Store, two_policies: Study, tmp_path: Path) -> None:
    store.studies.set_guideline(two_policies, "Be fair.")
    rank(store, two_policies, add_annotator(store, "bob"))
    source = Source.of(store, two_policies, "train", license="cc-by-4.0", citation="@misc{us}")
    export(source, "rankings", tmp_path / "r.jsonl", card_at=tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text()
    for words in (
        'license: "cc-by-4.0"', "# main", "| train | 1 | 1 | 2 | 2 | 0 |", "| 1 | 1 |", "| (none) | 1 |",
        "Version 1 is in force.", "| sft | sft |  | none |  | 0.8 | 1.0 | 64 | 2 |", "by pseudonyms", "left out",
        "```\n@misc{us}\n```", "| pairwise agreement | ", "| Fleiss' kappa | undefined, because",
    ):  # fmt: skip
        assert words in text, words
    assert "ann" not in text.replace("annotator", "").replace("Annotator", "")


def test_the_card_gives_each_statistic_with_its_interval_or_why_not() -> None:
    known, unknown = {"value": 0.7256, "low": 0.7, "high": 0.75, "n": 12}, {"undefined": "nobody ranked | twice"}
    kinds = {
        "krippendorff_alpha": {"nominal": known, "ordinal": unknown},
        "kendall_tau_b": unknown,
        "kendall_w": unknown,
    }
    rows = agreement_table({"pairwise_agreement": known, "fleiss_kappa": unknown, **kinds}).split("\n")
    assert "| pairwise agreement | 0.726 | 0.700 | 0.750 | 12 |" in rows
    assert "| Krippendorff's alpha, ordinal | undefined, because nobody ranked \\| twice |  |  |  |" in rows


def test_a_push_keeps_what_the_hub_noted(store: Store, two_policies: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub itself is not there: what it is given, and that its refusal is one sentence."""
    given: dict[str, Any] = {}

    def push_data(self: Any, repository: str, private: bool) -> None:
        given.update(rows={split: len(part) for split, part in self.items()}, data=repository, private=private)

    def push_card(self: Any, repository: str, repo_type: str) -> None:
        given.update(card=str(self), to=(repository, repo_type))

    made = DatasetCard("---\nconfigs: [{config_name: default}]\nlicense: mit\n---\n")
    monkeypatch.setattr(datasets.DatasetDict, "push_to_hub", push_data)
    monkeypatch.setattr(DatasetCard, "push_to_hub", push_card)
    monkeypatch.setattr(DatasetCard, "load", {"us/data": made}.__getitem__)
    source = Source.of(store, two_policies, None, license="cc-by-4.0")
    assert push(source, "trl-preference", "us/data")["records"] == 3
    assert (given["rows"], given["private"], given["to"]) == ({"train": 3}, True, ("us/data", "dataset"))
    assert "config_name: default" in given["card"] and "license: cc-by-4.0" in given["card"]
    monkeypatch.undo()
    with pytest.raises(RankloopError, match="us/data cannot be pushed to") as caught:
        push(source, "trl-preference", "us/data")
    assert "\n" not in str(caught.value)


def test_an_export_is_of_one_moment(store: Store, study: Study) -> None:
    """What is ranked while it runs is not half in it."""
    first, second = (add_comparison(store, study, question) for question in ("Why one?", "And what of two, then?"))
    ann = add_annotator(store)
    store.rankings.add_imported(ann, first, [first.items])
    other = Store(store.path)
    with store.snapshot():
        before = list(ranked_sets(Source.of(store, study, None)))
        other.rankings.add_imported(ann, second, [second.items])
        assert list(ranked_sets(Source.of(store, study, None))) == before
        with pytest.raises(AssertionError, match="inside a snapshot"), store.write():
            pass
    assert len(list(ranked_sets(Source.of(store, study, None)))) == 2
    other.close()
