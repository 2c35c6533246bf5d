"""The baseline of words and length finds what words and length say, and nothing else."""

import gzip
import json
import random
from pathlib import Path

import numpy as np

from tests.trainer.test_reward import WORDS
from trainer.baseline import TextBaseline
from trainer.batches import Example
from trainer.models import Base
from trainer.ranked import Ranked
from trainer.ranked_files import ranked_file
from trainer.reward_metrics import accuracy, lengths


def made(prompt: int, better: str, worse: str) -> Ranked:
    """A comparison of two."""
    return Ranked(str(prompt), [Example([1], [2])] * 2, [worse, better], [(1, 0, 1.0)], [])


def words(drawn: random.Random, count: int) -> str:
    return " ".join(drawn.sample(WORDS[1:], count))


def test_it_learns_a_word_and_a_length() -> None:
    drawn = random.Random(0)
    by_word = [made(i, words(drawn, 5) + " air", words(drawn, 6)) for i in range(60)]
    assert accuracy(by_word[40:], TextBaseline(by_word[:40]).scores(by_word[40:])).value > 0.9
    by_length = [made(i, words(drawn, 9), words(drawn, 4)) for i in range(60)]
    assert accuracy(by_length[40:], TextBaseline(by_length[:40]).scores(by_length[40:])).value > 0.9


def test_chance_stays_chance_and_empty_texts_have_scores() -> None:
    drawn = random.Random(1)
    noise = [made(i, words(drawn, 5), words(drawn, 5)) for i in range(300)]
    assert 0.35 < accuracy(noise[150:], TextBaseline(noise[:150]).scores(noise[150:])).value < 0.65
    for some in ([made(0, "", "a"), made(1, "b", "")], [made(0, "!!", "?")]):
        assert np.isfinite(TextBaseline(some).scores([made(2, "", "c")])).all()


def test_the_side_that_is_named_first_has_no_part() -> None:
    """Turned pairs give the same scores; a share of one half says nothing."""
    drawn = random.Random(2)
    some = [made(i, words(drawn, 6), words(drawn, 4)) for i in range(20)]
    turned = [Ranked(r.prompt, r.examples, r.texts[::-1], [(0, 1, 1.0)], []) for r in some]
    one, other = TextBaseline(some).scores(some), TextBaseline(turned).scores(some)
    assert np.allclose(one, other, atol=1e-4)
    even = [Ranked(r.prompt, r.examples, r.texts, [(1, 0, 0.5)], []) for r in some]
    assert np.abs(TextBaseline(even).scores(some)).max() < 1e-3


def test_human_arguments(real_data: Path, base: Base, tmp_path: Path) -> None:
    """Of eight debates of UKP: the longer one wins mostly, and words with length are well above chance on other debates."""
    packed = (real_data / "rankings" / "ukpconvarg_strict.jsonl.gz").read_bytes()
    lines = gzip.decompress(packed).decode().strip().split("\n")
    debates = sorted({json.loads(line)["topic"] for line in lines})[:8]
    file = tmp_path / "some.jsonl"
    file.write_text("\n".join(line for line in lines if json.loads(line)["topic"] in debates))
    ranked = ranked_file(file, base, simulated=False)
    prompts = list(dict.fromkeys(r.prompt for r in ranked))
    train, test = ([r for r in ranked if (prompts.index(r.prompt) % 4 == 0) is held] for held in (False, True))
    assert len(prompts) == 8 and accuracy(ranked, lengths(ranked)).value > 0.7
    assert accuracy(test, TextBaseline(train).scores(test)).value > 0.65
