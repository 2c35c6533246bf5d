"""The arithmetic of PPO and RLOO for language models, after Schulman et al. 2017 (arXiv 1707.06347), Ziegler et al. 2019
(arXiv 1909.08593) and Ahmadian et al. 2024 (arXiv 2402.14740). Pure: tensors in, tensors out.

B answers of up to R tokens; every mask is (B, R), True for a token of the answer, its end token included. Log-probabilities
are of the drawn tokens, in nats.
"""

import torch
from torch import Tensor


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens of the whole batch."""
    return (x * mask).sum() / mask.sum()


def masked_whiten(x: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
    """x with variance 1 over the real tokens, and mean 0 if `shift_mean`, else its own mean; 0 where there is no token."""
    mean = masked_mean(x, mask)
    variance = masked_mean((x - mean) ** 2, mask)
    whitened = (x - mean) * torch.rsqrt(variance + 1e-8)
    return (whitened if shift_mean else whitened + mean) * mask


def kl_k1(logprobs: Tensor, reference: Tensor) -> Tensor:
    """(B, R) unbiased estimate of KL(policy || reference) a token; may be negative (Schulman, "Approximating KL")."""
    return logprobs - reference


def kl_k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """(B, R) unbiased and never negative estimate of KL(policy || reference) a token (same source)."""
    log_ratio = reference - logprobs
    return log_ratio.exp() - 1 - log_ratio


def token_rewards(scores: Tensor, logprobs: Tensor, reference: Tensor, mask: Tensor, beta: float) -> Tensor:
    """(B, R): minus beta times the KL at each token, plus the answer's score (B,) at its last token (Ziegler, eq. 2)."""
    rewards = -beta * kl_k1(logprobs, reference) * mask
    last = mask.sum(1, keepdim=True) - 1
    return rewards.scatter_add(1, last, scores[:, None].to(rewards.dtype))


def advantages_and_returns(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and returns, each (B, R), 0 where there is no token (arXiv 1506.02438, eq. 16).

    `values` (B, R): value of the state before each token. The answer's end is terminal: its value is 0.
    """
    rewards, values = rewards * mask, values * mask
    advantage = torch.zeros_like(rewards[:, 0])
    columns = []
    for t in reversed(range(rewards.shape[1])):
        following = values[:, t + 1] if t + 1 < rewards.shape[1] else torch.zeros_like(advantage)
        delta = rewards[:, t] + gamma * following - values[:, t]
        advantage = (delta + gamma * lam * advantage) * mask[:, t]
        columns.append(advantage)
    advantages = torch.stack(columns[::-1], 1)
    return advantages, (advantages + values) * mask


def rloo_advantages(rewards: Tensor, mask: Tensor, samples: int) -> Tensor:
    """(B, R) an answer's whole reward minus the mean of those of the prompt's other answers, at each of its tokens; 0 where
    there is no token (arXiv 2402.14740, section 2.4).

    `rewards` (B, R): a token's reward, its KL penalty included. The `samples` answers of a prompt, at least 2, stand in
    consecutive rows.
    """
    assert samples > 1 and len(rewards) % samples == 0, f"{len(rewards)} rows are not groups of {samples} answers."
    whole = (rewards * mask).sum(1).view(-1, samples)
    others = (whole.sum(1, keepdim=True) - whole) / (samples - 1)
    return (whole - others).view(-1, 1) * mask


def policy_loss(
    logprobs: Tensor, old: Tensor, advantages: Tensor, clip: float, dual_clip: float | None = None
) -> tuple[Tensor, Tensor]:
    """(B, R) clipped surrogate loss a token, and True where a clip is at work (1707.06347, eq. 7).

    `dual_clip`, above 1: where the advantage is negative, the ratio counts as at most this (arXiv 1912.09729, eq. 5).
    """
    ratio = (logprobs - old).clamp(-20, 20).exp()
    plain, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    loss, at_work = torch.maximum(plain, clipped), clipped > plain
    if dual_clip is None:
        return loss, at_work
    most = torch.where(advantages < 0, -advantages * dual_clip, torch.inf)
    return torch.minimum(loss, most), at_work | (most < loss)


def truncated_weights(logprobs: Tensor, engine: Tensor, mask: Tensor, most: float) -> Tensor:
    """(B, R) min(pi(token) / mu(token), most): what a token drawn by another engine weighs; 0 where there is no token.

    `logprobs`: pi, the policy's as the training pass computes them; `engine`: mu, those with which an engine of other
    numerics drew the tokens (bf16, other kernels, quantised weights), which makes on-policy data slightly off-policy. The
    expectation under mu of the untruncated weight times anything is that under pi; truncation bounds its variance at
    the price of a bias that is 0 where no ratio is beyond `most` (Ionides 2008, "Truncated Importance Sampling"; for
    rollout engines: Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training"; as rho-bar
    in V-trace, arXiv 1802.01561, eq. 1).
    """
    return (logprobs - engine).clamp(-20, 20).exp().clamp(max=most) * mask


def value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """(B, R) half squared error a token, with values kept within `clip` of the old ones, and True where that is at work."""
    kept = old + (values - old).clamp(-clip, clip)
    plain, clipped = (values - returns) ** 2, (kept - returns) ** 2
    moved = (values - old).abs() > clip  # else `kept` is `values` but for rounding
    return 0.5 * torch.maximum(plain, clipped), moved & (clipped > plain)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns) over the real tokens; 0 if the returns are constant."""
    returns, values = returns[mask], values[mask]
    variance = returns.var(correction=0)
    return float(1 - (returns - values).var(correction=0) / variance) if variance > 0 else 0.0
