"""The quicker products against torch's own, forward and backward."""

import pytest
import torch
from torch import nn

from trainer import products
from trainer.products import Product, product

SHAPES = [(1, 8), (64, 8), (3, 5, 8), (0, 8)]


@pytest.fixture(params=["oneDNN", "torch"], autouse=True)
def _kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose products run: torch's, where it has no others."""
    if request.param == "torch":
        monkeypatch.setattr(products, "KNOWN", False)
    elif not products.KNOWN:
        pytest.skip("this torch was built without oneDNN")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_product_is_a_linear_layers(bias: bool, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    layer, x = nn.Linear(8, 6, bias=bias, dtype=dtype).requires_grad_(False), torch.randn(shape, dtype=dtype)
    torch.testing.assert_close(product(x, layer.weight, layer.bias), layer(x))
    torch.testing.assert_close(product(x[..., :6], layer.weight.T), x[..., :6] @ layer.weight)  # neither is contiguous


def test_its_gradient_is_a_linear_layers() -> None:
    layer, x = nn.Linear(8, 6).requires_grad_(False), torch.randn(3, 5, 8, requires_grad=True)
    weights = torch.randn(3, 5, 6)
    found, expected = Product.apply(x, layer.weight, layer.bias), layer(x)
    torch.testing.assert_close(found, expected)
    one, other = (torch.autograd.grad((out * weights).sum(), x)[0] for out in (found, expected))
    torch.testing.assert_close(one, other)
    spread = torch.autograd.grad(Product.apply(x, layer.weight, None).sum(), x)[0]  # all of a gradient in one number
    torch.testing.assert_close(spread, layer.weight.sum(0).expand(3, 5, 8))
