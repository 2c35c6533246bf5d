"""The norm in one operation against transformers' own."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

from trainer.models import load_base
from trainer.norms import RootMeanSquare, quicken


@pytest.mark.parametrize("kind", [LlamaRMSNorm, T5LayerNorm])
def test_one_operation_gives_the_same_states_and_gradients(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    norm = kind(24).double().requires_grad_(False)
    norm.weight.uniform_(-2, 2)
    norm.variance_epsilon = 0.3
    x = torch.randn(3, 5, 24, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: RootMeanSquare.apply(y, norm.weight, 0.3), x)
    x = x.float().detach().requires_grad_()
    norm.float()
    expected = norm(x)
    quicken(norm)
    found = norm(x)
    assert type(found.grad_fn).__name__ == "RootMeanSquareBackward"
    torch.testing.assert_close(found, expected)
    weights = torch.randn(x.shape)
    torch.testing.assert_close(*(torch.autograd.grad((y * weights).sum(), x)[0] for y in (found, expected)))


def test_in_16_bits_and_with_weights_that_are_trained_it_runs_as_it_was() -> None:
    for norm in (LlamaRMSNorm(8).bfloat16().requires_grad_(False), LlamaRMSNorm(8)):
        x = torch.randn(2, 8, requires_grad=True, dtype=norm.weight.dtype)
        expected = norm(x)
        quicken(norm)
        assert norm(x).equal(expected) and type(norm(x).grad_fn).__name__ == "MulBackward0"


def test_a_frozen_base_has_its_norms_quickened(llama_folder: Path, t5_folder: Path) -> None:
    for folder, norms in ((llama_folder, 5), (t5_folder, None)):
        model = load_base(str(folder), "none").model
        names = [name for name, module in model.named_modules() if "forward" in vars(module)]
        assert names and all("norm" in name for name in names)
        assert norms is None or len(names) == norms
