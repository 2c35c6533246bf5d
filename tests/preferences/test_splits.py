"""Train or held out: decided at import, for each near-duplicate cluster, and never again."""

from pathlib import Path

import pytest

from preferences.splits import split_of
from preferences.store import Store


def records(texts: list[str]) -> list[dict[str, object]]:
    return [{"messages": [{"role": "user", "content": text}]} for text in texts]


def test_the_split_of_a_cluster_is_the_same_in_every_version() -> None:
    """A changed hash would move prompts that were trained on into the held-out set."""
    assert [split_of(f"cluster{i}", 0.5)[0] for i in range(12)] == list("hhtththhhhhh")


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_the_share_is_about_the_one_asked_for(share: float) -> None:
    heldout = sum(split_of(str(i), share) == "heldout" for i in range(10_000)) / 10_000
    assert abs(heldout - share) < 0.01


def test_no_share_and_the_whole() -> None:
    assert {split_of(str(i), 0.0) for i in range(100)} == {"train"}
    assert {split_of(str(i), 1.0) for i in range(100)} == {"heldout"}


def test_a_larger_share_only_adds() -> None:
    for i in range(1000):
        assert split_of(str(i), 0.1) == "train" or split_of(str(i), 0.3) == "heldout"


def test_near_duplicates_share_a_split_and_keep_it(store: Store) -> None:
    texts = [f"Tell me the story of the number {n} and why people like it so much" for n in range(40)]
    first = store.prompts.add(records(texts[:1]), heldout=1.0)[0]
    rest = store.prompts.add(records(texts[1:]), heldout=0.0)
    assert {prompt.split for prompt in rest} == {"heldout"}
    assert {prompt.cluster for prompt in rest} == {first.cluster}
    assert store.prompts.add(records(texts), heldout=0.0) == [first, *rest]


def test_the_split_does_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    texts = [f"{word} is {color}" for word in ("sky", "sea", "sun", "snow") for color in ("blue", "red", "old", "new")]
    splits = []
    for name, order in (("a.db", texts), ("b.db", texts[::-1])):
        store = Store(tmp_path / name)
        splits.append({prompt.id: prompt.split for prompt in store.prompts.add(records(order), heldout=0.5)})
        store.close()
    assert splits[0] == splits[1]
    assert set(splits[0].values()) == {"train", "heldout"}


def test_prompts_come_back_in_the_order_of_import(store: Store) -> None:
    texts = [f"question number {n * 7919 % 101}" for n in range(30)]
    added = store.prompts.add(records(texts))
    assert [prompt.messages[0]["content"] for prompt in added] == texts
    assert store.prompts.all() == added
    assert store.prompts.all("train") + store.prompts.all("heldout") == sorted(added, key=lambda p: p.split != "train")


def test_a_prompt_given_twice_is_stored_once_and_only_role_and_content_count(store: Store) -> None:
    one = {"messages": [{"role": "user", "content": "hi"}], "source": "mine", "language": "en", "tags": ["short"]}
    other = {"messages": [{"role": "user", "content": "hi", "name": "x"}], "source": "other"}
    first, second = store.prompts.add([one, other])
    assert first == second
    assert (first.source, first.language, first.tags) == ("mine", "en", ["short"])
    assert store.prompts.get(first.id) == first
