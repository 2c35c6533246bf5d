"""One process alone asks nobody; what several do together is in test_distributed.py."""

from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file

from preferences.errors import RankloopError
from tests.conftest import ROOT
from tests.trainer.make import EXAMPLES, is_one_sentence
from trainer.budget import Budget
from trainer.world import ALONE, PeerLost, World, lost, training_together


def test_one_process_alone_has_everything_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert World.here() == ALONE == World()
    assert (ALONE.main, ALONE.first_here, ALONE.own([3, 1, 2])) == (True, True, [3, 1, 2])
    assert (ALONE.told(lambda: 5), ALONE.each("a"), ALONE.joined({1: "b", 0: "a"})) == (5, ["a"], ["a", "b"])
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = gradient = torch.tensor([1.0, 2.0])
    ALONE.add_gradients([parameter, torch.nn.Parameter(torch.ones(1))])
    assert parameter.grad is gradient
    with pytest.raises(RankloopError, match="no"), ALONE.quiet():
        ALONE.told(lambda: (_ for _ in ()).throw(RankloopError("no")))


def test_every_row_belongs_to_one_process_and_prompts_stay_whole() -> None:
    """Dealt out from the longest prompt to the shortest, so that the shares have about as many tokens."""
    examples = [example for example in EXAMPLES for _ in range(2)]
    shares = [list(Budget(100, True, World(rank, 3)).own(examples)) for rank in range(3)]
    assert sorted(i for share in shares for i in share) == list(range(12))
    for share in shares:
        assert len(share) == 4 and {i // 2 * 2 for i in share} | {i // 2 * 2 + 1 for i in share} == set(share)
    tokens = [sum(len(examples[i]) for i in share) for share in shares]
    assert max(tokens) - min(tokens) <= max(map(len, examples))
    few = [list(Budget(100, True, World(rank, 3)).own(examples[:2])) for rank in range(3)]
    assert few == [[0, 1], [], []]


def test_a_lost_process_is_one_sentence_and_other_errors_stay() -> None:
    said = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1\nmore")
    assert is_one_sentence(str(lost(said))) and "--resume" in str(lost(said))
    assert "reached (Connection closed by peer [127.0.0.1]:1); look" in str(lost(said))
    with pytest.raises(PeerLost), training_together():
        raise said
    with pytest.raises(RuntimeError, match="another") as other, training_together():
        raise RuntimeError("another mistake")
    assert not isinstance(other.value, PeerLost)


@pytest.mark.parametrize("file", sorted((ROOT / "trainer" / "launch").glob("*.yaml")), ids=lambda file: file.name)
def test_accelerate_takes_the_configurations(file: Path) -> None:
    config = load_config_from_file(str(file))
    assert config.num_processes == 2
    assert str(config.distributed_type).rpartition(".")[2] == ("FSDP" if file.name == "fsdp2.yaml" else "MULTI_GPU")
