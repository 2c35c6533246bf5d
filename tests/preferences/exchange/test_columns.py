"""Ranked sets as columns, against the same sets made record by record."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from preferences.errors import RankloopError
from preferences.exchange import columns
from preferences.exchange.columns import ranked_sets
from preferences.exchange.exporting import export
from preferences.exchange.importing import import_rankings
from preferences.exchange.views import Ranked, Source
from preferences.rankings import ALL_BAD
from preferences.records import Ranking, Response, Study
from preferences.store import Store
from tests.preferences.exchange.make import ODD, write_lines
from tests.preferences.make import add_annotator, add_comparison, add_policy, add_prompt

SAMPLING = ("text", "seed", "sample_index", "temperature", "top_p", "max_new_tokens", "finish_reason", "tokens")


def plain_set(source: Source, ranked: Ranked) -> dict[str, Any]:
    """A ranked set from records, word for word as docs/exchange.md says it."""
    order = list(ranked.responses)
    shown = [ranked.comparison.same[ident] for ident in order]
    responses = [
        {
            **{name: asdict(response)[name] for name in (*SAMPLING, "template_hash")},
            "model": source.policies[response.policy].name,
            "same_as": None if shown[number] == ident else order.index(shown[number]),
        }
        for number, (ident, response) in enumerate(ranked.responses.items())
    ]
    prompt = ranked.prompt
    return {
        "id": ranked.comparison.id, "split": prompt.split, "source": prompt.source, "language": prompt.language,
        "tags": prompt.tags, "prompt": prompt.messages, "responses": responses,
        "annotations": [plain_annotation(source, ranking, order, shown) for ranking in ranked.rankings],
    }  # fmt: skip


def plain_annotation(source: Source, ranking: Ranking, order: list[str], shown: list[str]) -> dict[str, Any]:
    flags = {item: marks for item, marks in ranking.flags.items() if item != ALL_BAD}
    return {
        "annotator": source.called[ranking.annotator],
        "simulated": source.annotators[ranking.annotator].simulated,
        "ranking": [[number for number, item in enumerate(shown) if item in tier] for tier in ranking.tiers],
        "mode": ranking.mode,
        "strengths": ranking.strengths,
        "flags": [flags.get(item, []) for item in shown] if flags else [],
        "all_bad": ALL_BAD in ranking.flags,
        "verdict": ranking.verdict,
        "ratings": [ranking.ratings.get(item) for item in shown] if ranking.ratings else [],
        "reason": ranking.reason,
        "rewrite": ranking.rewrite,
        "rewrite_of": order.index(ranking.rewrite_of) if ranking.rewrite_of else None,
        "shown": [order.index(item) for item in ranking.order],
        "active_ms": ranking.active_ms,
        "created": ranking.created,
    }


@pytest.fixture
def study(store: Store, tmp_path: Path) -> Study:
    """Sets of many kinds, some of which do not count."""
    study = store.studies.create("main", plan={"labels_train": 3})
    said: list[list[dict[str, Any]]] = [
        [{"ranking": [[2], [0], [1]], "strengths": [3, 1], "flags": [[], ["harmful"], []], "active_ms": 900}],
        [{"ranking": [[0, 1, 2]], "all_bad": True, "reason": ODD}, {"ranking": [[1, 2], [0]], "ratings": [1, 7, 6]}],
        [{"ranking": [[1], [0], [2]], "rewrite": "Better.", "rewrite_of": 1, "shown": [2, 0, 1], "created": 5.5}],
        [{"ranking": [[2, 0], [1]], "simulated": True, "annotator": "judge"}],
    ]
    records = [
        {
            "prompt": [{"role": "system", "content": ODD}, {"role": "user", "content": f"Question {number}, please?"}],
            "responses": [{"text": text, "model": f"m{number}"} for text in ("a", "b", "c")],
            "annotations": [{"annotator": f"ann{i}", **one} for i, one in enumerate(annotations)],
            "tags": ["x", "y"][:number],
        }
        for number, annotations in enumerate(said)
    ]
    import_rankings(store, study, write_lines(tmp_path / "in.jsonl", records))
    prompt, sft, ppo = add_prompt(store, "Who said yes?"), add_policy(store, "sft"), add_policy(store, "ppo")
    responses = [
        Response.make(prompt.id, policy.id, text, 7, index, temperature=0.8)
        for index, (policy, text) in enumerate(((sft, "no"), (sft, "yes"), (ppo, "yes"), (ppo, "perhaps")))
    ]
    store.responses.add(responses)
    for some in (responses, responses[2:]):  # two responses are in two sets, at another place in each
        made = store.comparisons.add(study, prompt.id, some)
        assert made is not None
        tiers = [made.items[::-1]] if len(made.items) == 2 else [[made.items[-1]], made.items[:-1]]
        store.rankings.add_imported(add_annotator(store, f"of {len(some)}"), made, tiers, made.items[::-1])
    add_comparison(store, study, "Nobody has ranked this.")
    excluded = add_annotator(store, "eve")
    alone = add_comparison(store, study, "Only eve has ranked this one.")
    store.rankings.add_imported(excluded, alone, [alone.items])
    store.exclusions.exclude(study, excluded, "guesses")
    return study


@pytest.mark.parametrize("batch", [2, 1000])
@pytest.mark.parametrize(("simulated", "split"), [(False, None), (True, None), (True, "train")])
def test_columns_say_what_the_records_say(
    store: Store, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, simulated: bool,
    split: str | None,
) -> None:  # fmt: skip
    monkeypatch.setattr(columns, "BATCH", batch)
    source = Source.of(store, study, split, simulated=simulated)
    plain = [plain_set(source, ranked) for ranked in source.ranked()]
    assert len(plain) >= (split is None) * (5 + simulated)
    assert any(response["same_as"] is not None for record in plain for response in record["responses"])
    assert list(ranked_sets(source)) == plain
    export(source, "rankings", tmp_path / "out.parquet")
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == plain


def test_a_failure_to_encode_a_group_of_rows_is_no_shorter_file(
    store: Store, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are encoded in another thread, whose errors must arrive; also the one of the last group."""

    def full(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(parquet.ParquetWriter, "write_table", full)
    with pytest.raises(RankloopError, match="disk full"):
        export(Source.of(store, study, None), "rankings", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
