"""A linear probe as the warm start of a scalar head."""

import torch
from torch import Tensor, nn

from trainer.reward_loss import pairwise_loss


def fit_head(head: nn.Linear, states: Tensor, pairs: tuple[Tensor, Tensor, Tensor, Tensor], l2: float) -> float:
    """Set the head to the Bradley-Terry fit on fixed states; the loss a comparison weight.

    `states` (responses, hidden), standardised inside; `pairs`: better, worse, share, weight as `pairwise_loss` takes them;
    `l2` times half the squared norm of the weights on standardised states is added. Convex, solved by L-BFGS.
    """
    mean, std = states.mean(0), states.std(0) + 1e-6
    standard = ((states - mean) / std).double()
    better, worse, share, weight = pairs
    weight = weight.double() / weight.sum()
    w = torch.zeros(states.shape[1], dtype=torch.float64, device=states.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([w], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = pairwise_loss(standard @ w, better, worse, share.double(), weight) + l2 / 2 * (w @ w)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        head.weight.copy_((w / std).to(head.weight.dtype)[None])
        head.bias.copy_(-(head.weight[0] @ mean.to(head.weight.dtype))[None])
        return float(pairwise_loss(standard @ w, better, worse, share.double(), weight))
