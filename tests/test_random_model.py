"""Random weights of a true shape."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scripts import random_model
from scripts.random_model import write_random
from tests.tiny import save_tiny_llama, save_tiny_t5
from trainer.batches import Example
from trainer.models import load_base
from trainer.roles import Roles


@pytest.mark.parametrize("save", [save_tiny_llama, save_tiny_t5])
def test_it_is_loaded_like_any_other(
    save: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    like = save(tmp_path / "like")
    monkeypatch.setattr(random_model, "SHARD", 60_000)
    folder = write_random(str(like), tmp_path / "random", torch.device("cpu"))

    base, wanted = load_base(str(folder), "none"), load_base(str(like), "none")
    assert len(list(folder.glob("*.safetensors"))) > 1
    shapes, expected = ({n: p.shape for n, p in b.model.named_parameters()} for b in (base, wanted))
    assert set(shapes.items()) - set(expected.items()) <= {
        ("lm_head.weight", (384, 64))
    }  # T5's is its own when published
    assert expected.keys() <= shapes.keys()
    assert base.model.get_output_embeddings().weight.std().item() == pytest.approx(0.02, rel=0.05)
    norms = [p for n, p in base.model.named_parameters() if "norm" in n and p.dim() == 1]
    assert norms
    assert all((p == 1).all() for p in norms)

    roles = Roles(base)
    ids = base.prompt_ids([{"role": "user", "content": "How?"}])
    batch = roles.collate([Example(ids, base.response_ids("So.", True))])
    with torch.no_grad(), roles.routed("base"):
        assert torch.isfinite(roles.response_states(batch)).all()
