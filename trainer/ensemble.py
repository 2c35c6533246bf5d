"""Several reward models on the one base: their mean, how far they are apart, and a score that is lower where they are."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from preferences.errors import RankloopError
from trainer.adapters import WrongAdapter
from trainer.roles import Roles
from trainer.runs import whole_folder
from trainer.scoring import RewardModel, Scorer

FILE = "ensemble.json"  # beside the members' folders


@dataclass(frozen=True, slots=True)
class Ensemble(Scorer):
    """Members that were normalised each on its own. A score is mean - `pessimism` * std (arXiv 2310.02743, eq. 3 has the
    variance); std over the members as they are, without a correction for their number."""

    roles: Roles
    members: tuple[RewardModel, ...]
    card: dict[str, Any]
    pessimism: float = 0.0

    @property
    def blocks(self) -> tuple[str, ...]:
        """A role each."""
        return tuple(member.role for member in self.members)

    def each(self, states: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """(members, rows) normalised scores."""
        return torch.stack(
            [member.score(of_member, lengths) for member, of_member in zip(self.members, states, strict=True)]
        )

    def judge(self, states: Sequence[Tensor], lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Pessimistic scores and the members' standard deviation."""
        scores = self.each(states, lengths)
        spread = scores.std(0, correction=0)
        return scores.mean(0) - self.pessimism * spread, spread

    def copy_as_value(self, role: str) -> None:
        """The value starts as the first member."""
        self.members[0].copy_as_value(role)

    def save(self, folder: Path) -> None:
        """Each member as an adapter of its own in a folder of its own."""
        with whole_folder(folder) as place:
            for number, member in enumerate(self.members):
                member.roles.save(member.role, place / f"member-{number}", member.card)
            names = [f"member-{number}" for number in range(len(self.members))]
            (place / FILE).write_text(json.dumps({**self.card, "members": names}, indent=1) + "\n")


def member_role(number: int) -> str:
    """No role's name may begin with another's: PEFT takes an adapter's weights by the beginning of their names."""
    return f"reward-{number:03d}"


def load_reward(roles: Roles, folder: Path, pessimism: float = 0.0) -> Scorer:
    """The reward model, or the ensemble, of a run's 'adapter' folder. Raises WrongAdapter.

    RankloopError if a single model is asked for pessimism, which takes several.
    """
    if not (folder / FILE).is_file():
        model = RewardModel.load(roles, "reward", folder)
        if pessimism:
            raise RankloopError(
                f"{folder} is a single reward model, which has no spread to be pessimistic about; train an ensemble with "
                "`trainer reward --members 4`, or leave --pessimism out."
            )
        return model
    try:
        card = json.loads((folder / FILE).read_text())
        names = [str(name) for name in card["members"]]
    except (ValueError, KeyError, TypeError) as error:
        raise WrongAdapter(f"{folder / FILE} cannot be read ({error}); restore it or train again.") from error
    members = [RewardModel.load(roles, member_role(i), folder / name) for i, name in enumerate(names)]
    return Ensemble(roles, tuple(members), card, pessimism)


def members_of(folder: Path) -> int:
    """How many reward models are in a run's 'adapter' folder; 1 where it cannot be read, which loading it will say."""
    try:
        return len(json.loads((folder / FILE).read_text())["members"])
    except (OSError, ValueError, KeyError, TypeError):
        return 1


def averaged(members: Sequence[RewardModel], role: str) -> RewardModel:
    """One reward model with the mean of the members' weights (WARM, arXiv 2401.12187); its scores are not normalised yet.

    Heads are brought to the scale of normalised scores first, so that each counts the same.
    """
    roles = members[0].roles
    roles.average([member.role for member in members], role)
    head = roles.add_head(role)
    with torch.no_grad():
        for member in members:
            own = roles.heads[member.role]
            head.weight.add_(own.weight / member.std / len(members))
            head.bias.add_((own.bias - member.mean) / member.std / len(members))
    return RewardModel(roles, role, 0.0, 1.0, {**members[0].card, "averaged": len(members)})


def normalised(model: RewardModel, raw: Sequence[float]) -> RewardModel:
    """The model on the scale on which these raw scores of it have mean 0 and standard deviation 1."""
    scores = torch.tensor(raw, dtype=torch.float64)
    mean, std = float(scores.mean()), max(float(scores.std(correction=0)), 1e-6)
    return replace(model, mean=mean, std=std, card={**model.card, "mean": mean, "std": std})
