"""Rows, masks and positions against slow loops."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.batches import Example, chunks, collate, micro_batches, pad

CPU = torch.device("cpu")
PAD, START = 0, 1

tokens = st.lists(st.integers(2, 9), min_size=1, max_size=5)
some = st.lists(st.builds(Example, tokens, tokens), min_size=1, max_size=5)


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=5).filter(any))
def test_pad(rows: list[list[int]]) -> None:
    """A real token that equals the pad token counts as real."""
    ids, mask = pad(rows, PAD, CPU)
    for i, row in enumerate(rows):
        assert ids[i].tolist() == row + [PAD] * (max(map(len, rows)) - len(row))
        assert mask[i].tolist() == [True] * len(row) + [False] * (max(map(len, rows)) - len(row))


@given(some)
def test_decoder_only_rows(examples: list[Example]) -> None:
    batch = collate(examples, PAD, CPU)
    assert batch.decoder_ids is None
    assert batch.lengths.tolist() == [len(example.response) for example in examples]
    width = max(len(example.response) for example in examples)
    assert batch.positions.shape == (len(examples), width + 1)
    for i, example in enumerate(examples):
        text = example.prompt + example.response
        assert batch.input_ids[i, batch.attention_mask[i].bool()].tolist() == text
        assert int(batch.attention_mask[i].sum()) == len(example)
        for t, token in enumerate(example.response):
            position = int(batch.positions[i, t])
            assert batch.input_ids[i, position + 1] == token == batch.response_ids[i, t]
            assert text[: position + 1] == example.prompt + example.response[:t]
        for t in range(len(example.response), width + 1):
            assert batch.positions[i, t] == len(text) - 1


@given(some)
def test_encoder_decoder_rows(examples: list[Example]) -> None:
    batch = collate(examples, PAD, CPU, START)
    assert batch.decoder_ids is not None
    width = max(len(example.response) for example in examples)
    for i, example in enumerate(examples):
        assert batch.input_ids[i, batch.attention_mask[i].bool()].tolist() == example.prompt
        assert batch.decoder_ids[i, : len(example.response) + 1].tolist() == [START, *example.response]
        expected = [*range(len(example.response)), *[len(example.response)] * (width + 1 - len(example.response))]
        assert batch.positions[i].tolist() == expected
        assert batch.response_ids[i, batch.response_mask[i]].tolist() == example.response


def test_the_end_token_belongs_to_the_response() -> None:
    batch = collate([Example([5, 6], [7, 2]), Example([5], [2])], PAD, CPU)
    assert batch.response_mask.tolist() == [[True, True], [True, False]]
    assert batch.input_ids.tolist() == [[5, 6, 7, 2], [5, 2, PAD, PAD]]
    assert batch.positions.tolist() == [[1, 2, 3], [0, 1, 1]]


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 200))
def test_micro_batches(lengths: list[int], budget: int) -> None:
    """Every index once; the budget kept, but by a single row that is longer than it; no group could take its successor."""
    groups = micro_batches(lengths, budget)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) * max(lengths[i] for i in group) <= budget or len(group) == 1
    for group, following in pairwise(groups):
        assert max(lengths[i] for i in group) * (len(group) + 1) > budget
        assert min(lengths[i] for i in group) >= max(lengths[i] for i in following)


@pytest.mark.parametrize(("size", "expected"), [(2, ["ab", "cd", "e"]), (9, ["abcde"]), (5, ["abcde"])])
def test_chunks(size: int, expected: list[str]) -> None:
    assert list(chunks("abcde", size)) == expected
