"""Rows, masks and positions against slow loops."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.batches import Example, chunks, collate, collate_pairs, first_batch, micro_batches, pad, shared_batches

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
    batch = collate_pairs(examples, PAD, CPU, START)
    assert batch.decoder_ids is not None
    width = max(len(example.response) for example in examples)
    for i, example in enumerate(examples):
        row = int(batch.rows[i])
        assert batch.input_ids[row, batch.attention_mask[row].bool()].tolist() == example.prompt
        assert batch.decoder_ids[i, : len(example.response) + 1].tolist() == [START, *example.response]
        expected = [*range(len(example.response)), *[len(example.response)] * (width + 1 - len(example.response))]
        assert batch.positions[i].tolist() == expected
        assert batch.response_ids[i, batch.response_mask[i]].tolist() == example.response


@given(st.lists(st.tuples(tokens, st.lists(tokens, min_size=1, max_size=4)), min_size=1, max_size=4))
def test_answers_that_share_their_prompts_row(groups: list[tuple[list[int], list[list[int]]]]) -> None:
    """What each token sees, its position, and where the states are, against the rows that the answers would have alone."""
    examples = [Example(prompt, response) for prompt, responses in groups for response in responses]
    batch = collate(examples, PAD, CPU, share=True)
    assert len(batch.input_ids) == sum(a.prompt != b.prompt for a, b in pairwise(examples)) + 1
    mask = batch.attention_mask
    for i, example in enumerate(examples):
        row = int(batch.rows[i])
        text = example.prompt + example.response
        places = batch.positions[i, : len(example.response) + 1].tolist()
        for t, place in enumerate(places):
            if batch.position_ids is None:
                seen, positions = torch.arange(place + 1), torch.arange(place + 1)
            else:
                seen = mask[row, 0, place].nonzero().squeeze(1)
                positions = batch.position_ids[row, seen]
            assert batch.input_ids[row, seen].tolist() == text[: len(example.prompt) + t]
            assert positions.tolist() == list(range(len(example.prompt) + t))
    assert mask.dim() == 2 or bool(mask.any(-1).all()), "a row that sees nothing would be NaN"


def test_a_repeated_batch_is_one_block_after_another() -> None:
    examples = [Example([3, 4], [5]), Example([3, 4], [6, 7]), Example([8], [9])]
    batch = collate(examples, PAD, CPU, share=True)
    twice = batch.repeat(2)
    assert twice.rows.tolist() == [0, 0, 1, 2, 2, 3]
    for name in ("input_ids", "attention_mask", "position_ids", "positions", "response_ids", "response_mask"):
        first, second = getattr(twice, name).chunk(2)
        assert first.equal(getattr(batch, name)) and second.equal(first)


def test_answers_to_one_prompt_stay_in_one_micro_batch() -> None:
    examples = [Example([1] * 4, [2] * n) for n in (3, 1, 2)] + [Example([7] * 4, [2] * 6)]
    assert shared_batches(examples, 10, share=True) == [[0, 1, 2], [3]]
    assert shared_batches(examples, 20, share=True) == [[0, 1, 2, 3]]
    assert shared_batches(examples, 14, share=False) == [[3], [0, 2], [1]]


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


def test_the_first_prompts_that_fit_one_batch() -> None:
    examples = [Example([7] * n, [2] * m) for n, m in ((3, 2), (3, 4), (9, 1), (2, 2))]
    found = {budget: first_batch(examples, budget) for budget in (1, 29, 30, 39, 40)}
    assert found == {1: [0, 1], 29: [0, 1], 30: [0, 1, 2], 39: [0, 1, 2], 40: [0, 1, 2, 3]}
