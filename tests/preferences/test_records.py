"""Ids: hashes of what they identify."""

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferences.records import Policy, Response, content_id, random_id


def test_ids_are_the_same_in_every_version() -> None:
    """A changed hash would import everything a second time: these digests must never change."""
    assert content_id("prompt", [{"role": "user", "content": "Grüße 🙂"}]) == "6977ec101caad25be112"
    assert content_id("response", "p", "text", "policy", 7, 0) == "d6cddc4a98247e07f83c"


def test_key_order_does_not_matter_and_values_do() -> None:
    assert content_id({"role": "user", "content": "a"}) == content_id({"content": "a", "role": "user"})
    assert content_id("a", "bc") != content_id("ab", "c")
    assert content_id(1) != content_id("1")


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_equal_ids_mean_equal_parts(one: list[str], other: list[str]) -> None:
    assert (content_id(*one) == content_id(*other)) == (one == other)


def test_a_response_id_tells_apart_policy_seed_and_sample() -> None:
    made = [
        Response.make("p", policy, text, seed, index)
        for policy in ("sft", "ppo")
        for text in ("yes", "no")
        for seed in (0, 1)
        for index in (0, 1)
    ]
    assert len({response.id for response in made}) == 16
    assert Response.make("p", "sft", "yes", 0, 0, temperature=0.3).id == made[0].id


def test_random_ids_differ() -> None:
    assert len({random_id() for _ in range(1000)}) == 1000
    assert len(random_id()) == len(content_id()) == 20


def test_records_are_frozen_and_a_typo_raises() -> None:
    policy = Policy("id", "name", "sft")
    with pytest.raises(FrozenInstanceError):
        policy.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError, match="quantisation"):
        Policy("id", "name", "sft", quantisation="int8")  # type: ignore[call-arg]
