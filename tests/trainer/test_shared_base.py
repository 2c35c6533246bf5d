"""Four roles on one base, against a model for each of them: how much lives at the peak, weights and activations together,
when both do the same work with as many tokens at once."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch

from tests.tiny import save_tiny_llama
from tests.trainer.make import close, randomise, with_adapters
from trainer.batches import Example
from trainer.budget import LIGHTER, Budget
from trainer.experience import Answers, Rollout, Targets
from trainer.judges import Judges
from trainer.learner import Learner
from trainer.live_bytes import LiveBytes
from trainer.models import load_base
from trainer.ppo import Ppo
from trainer.ppo_math import value_loss
from trainer.roles import Roles
from trainer.scoring import RewardModel

ROLES, HEADS = ("reference", "policy", "value", "reward"), ("value", "reward")
TOKENS = 128  # of an update's pass
RULE = Ppo(out=Path("nowhere"), reward=Path("nowhere")).update_rule()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose weights take about as much as what its passes keep."""
    return save_tiny_llama(tmp_path, width=256)


@pytest.fixture
def shared(folder: Path) -> Roles:
    """All roles on one base."""
    return with_adapters(load_base(str(folder), "none"), *ROLES, heads=HEADS)


@pytest.fixture
def apart(folder: Path) -> dict[str, Roles]:
    """The same roles, each on a base of its own."""
    found = {}
    for seed, name in enumerate(ROLES):
        found[name] = with_adapters(load_base(str(folder), "none"), name, heads=HEADS)
        randomise(found[name], name, seed)
    return found


def drawn() -> Answers:
    """Twelve answers of different lengths, each to a prompt of its own."""
    examples = [Example([20 + i, *range(40, 50)], [60 + i] * (6 + i % 3)) for i in range(12)]
    mask = torch.arange(8) < torch.tensor([len(example.response) for example in examples])[:, None]
    return Answers([], examples, [""] * 12, [True] * 12, mask, -torch.ones(12, 8) * mask, torch.zeros(12, 8))


def stored(roles: Iterable[Roles]) -> int:
    """Bytes of all weights."""
    modules = [module for one in roles for module in (one.base.model, *one.heads.values())]
    return sum(parameter.nbytes for module in modules for parameter in module.parameters())


def peak(work: Callable[[], object]) -> int:
    """Bytes that live at the most of what the work makes."""
    with LiveBytes() as live:
        work()
    return live.peak


def test_judging(shared: Roles, apart: dict[str, Roles]) -> None:
    answers, tokens = drawn(), Budget(TOKENS, share=True)
    all_three = Judges(shared, "reference", "value", RewardModel(shared, "reward", 0.0, 1.0, {}), 1.0)
    own = {name: Judges(roles, name, None, None, 1.0) for name, roles in apart.items()}
    reward = RewardModel(apart["reward"], "reward", 0.0, 1.0, {})
    rollout = all_three.judge(answers, tokens)
    reference, _ = own["reference"].replay("reference", None, answers.examples, tokens)
    _, values = own["value"].replay("value", "value", answers.examples, tokens)
    scores = torch.tensor(reward.score_all(answers.examples, LIGHTER * TOKENS))
    pairs = ((rollout.reference, reference), (rollout.answers.values, values), (rollout.scores, scores))
    assert all(close(one, other, 1e-3) and one.std() > 0.05 for one, other in pairs), "the same work"
    together = stored([shared]) + peak(lambda: all_three.judge(answers, tokens))
    passes = (
        lambda: own["reference"].replay("reference", None, answers.examples, tokens),
        lambda: own["value"].replay("value", "value", answers.examples, tokens),
        lambda: reward.score_all(answers.examples, LIGHTER * TOKENS),
    )
    separate = stored(apart.values()) + max(map(peak, passes))
    assert together < 0.5 * separate, (together, separate)


def test_an_update(shared: Roles, apart: dict[str, Roles]) -> None:
    answers = drawn()
    rollout = Rollout(answers, answers.old, torch.zeros(12))
    targets, rows = Targets(torch.randn(12, 8), torch.randn(12, 8), rollout.scores, answers.old), list(range(12))
    for roles in (shared, *apart.values()):
        roles.train_only(*({"policy", "value"} & roles.names))
    learner, policy = (
        Learner(
            Judges(roles, "policy", value, None, 1.0), value, RULE, dict.fromkeys(names, 1e-3), Budget(TOKENS, True)
        )
        for roles, value, names in ((shared, "value", ("policy", "value")), (apart["policy"], None, ("policy",)))
    )
    theirs = apart["value"]

    def value() -> None:
        """The value's gradients alone."""
        judges = Judges(theirs, "value", None, None, 1.0)

        def work(part: list[int]) -> None:
            one = theirs.collate([answers.examples[i] for i in part])
            r = one.response_ids.shape[1]
            with theirs.routed("value"):
                values = judges.values("value", theirs.response_states(one), one)
                loss, _ = value_loss(values, answers.values[part, :r], targets.returns[part, :r], RULE.value_clip)
                found = torch.autograd.grad((loss * one.response_mask).sum(), theirs.parameters("value"))
            for parameter, gradient in zip(theirs.parameters("value"), found, strict=True):
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)

        Budget(TOKENS, share=True).each(answers.examples, 1, work, gradients=True)

    together = stored([shared]) + peak(lambda: learner.gradients(rollout, targets, rows))
    separate = stored(apart.values()) + max(peak(lambda: policy.gradients(rollout, targets, rows)), peak(value))
    for name, roles in (("policy", apart["policy"]), ("value", theirs)):
        tokens = 1 if name == "policy" else int(answers.mask.sum())  # the learner's are means
        for one, other in zip(shared.parameters(name), roles.parameters(name), strict=True):
            assert one.grad is not None and other.grad is not None
            assert close(one.grad, other.grad / tokens, 1e-3), "the same work"
    assert together < 0.5 * separate, (together, separate)
