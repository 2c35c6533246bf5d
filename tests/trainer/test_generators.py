"""The generators of random numbers: begun alike, and going on from where they were."""

import random
from pathlib import Path

import numpy as np
import torch

from trainer import generators
from trainer.checkpoints import Checkpoints

CPU = torch.device("cpu")


def drawn() -> list[float]:
    """From every one; of the two kinds that keep a second normal number for later, one such."""
    normal = [random.gauss(0, 1), float(np.random.normal())]
    return [*normal, random.random(), float(np.random.random()), float(torch.rand(1))]


def test_a_seed_is_the_beginning_of_all() -> None:
    for number in (3, -1, 2**40):
        generators.seed(number)
        first = drawn()
        generators.seed(number)
        assert drawn() == first
        generators.seed(number + 1)
        assert all(one != other for one, other in zip(drawn(), first, strict=True))


def test_they_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    generators.seed(5)
    drawn()
    kept = Checkpoints(tmp_path)
    kept.save(1, {"generators": generators.state_dict(CPU)})
    expected = [drawn(), drawn()]
    state = kept.newest()
    assert state is not None
    generators.load_state_dict(state["generators"], CPU)
    assert [drawn(), drawn()] == expected
