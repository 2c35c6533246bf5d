"""The largest batch of every step of a stage that fits into some memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from trainer.batches import widths
from trainer.budget import LIGHTER
from trainer.depth import depth_of, depths, solved, with_layers
from trainer.fake_base import empty_model, fake_base
from trainer.fakes import without_data
from trainer.models import Quantization, compute_dtype
from trainer.rehearsal import Compare, Decode, Judge, PpoStand, Shape, Stand, Step, Update
from trainer.rehearsal_sft import Finetune
from trainer.roles import Roles, lora_config
from trainer.tally import ADAPTERS, WEIGHTS, Peak, Tally
from trainer.ways import StageName, Ways

GIB = 2**30
RESERVE = 1.0  # GiB: the driver's context, kernels and workspaces (about 0.7), and some fragmentation at the least
FRAGMENTS = 0.05  # of what comes and goes during a step: wasted by an allocator that hands out blocks
STRAIGHT = 4  # executions in search of the largest batch after which a straight line is no longer believed


@dataclass(frozen=True, slots=True)
class Setup:
    """What is planned. `limit`: answers beyond which no batch needs to be larger; `gpu` False: as on this CPU, in fp32;
    `exact`: execute all layers."""

    config: PretrainedConfig
    quantization: Quantization
    shape: Shape
    limit: int = 64
    gpu: bool = True
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """The largest batch of one step, in `units`, `answers` and `tokens`; where these are 0, not even one unit fits, and
    `peak` is that of one."""

    units: int
    answers: int
    tokens: int
    peak: Peak

    @property
    def reserve(self) -> int:
        """Bytes to keep free for what no tensor holds."""
        parts = self.peak.parts
        steady = sum(parts[part] for part in (WEIGHTS, ADAPTERS))
        return int(RESERVE * GIB + FRAGMENTS * (self.peak.bytes - steady))

    @property
    def total(self) -> int:
        """Bytes that the card must have."""
        return self.peak.bytes + self.reserve


def stand_of(setup: Setup, ways: Ways, layers: int) -> Stand:
    """A base without data of so many layers, within `without_data`; what it counts is counted within its `tally`."""
    config = with_layers(setup.config, layers)
    dtype = compute_dtype(torch.device("cuda" if setup.gpu else "cpu"), config)
    model = empty_model(config, setup.quantization, dtype)
    tally = Tally(int(config.get_text_config().vocab_size), setup.gpu)
    with tally, tally.part(WEIGHTS):
        base = fake_base(model, config.model_type, setup.quantization)
    return Stand(base, tally, setup.shape, ways, setup.gpu)


@contextmanager
def rehearsing(setup: Setup, ways: Ways) -> Iterator[Stand]:
    """Within, a base without data, of all layers, to try steps on."""
    with without_data(setup.gpu):
        stand = stand_of(setup, ways, depth_of(setup.config))
        with stand.tally:
            yield stand


def steps_of(stage: StageName, stand: Stand) -> dict[str, Step]:
    """What a stage does with the card, each with its own batch."""
    if stage == "sft":
        return {"update": Finetune(stand)}
    if stage == "reward":
        return {"update": Compare(stand)}
    if stage == "ppo":
        ppo = PpoStand(stand)
        return {"update": Update(ppo), "judge": Judge(ppo), "sample": Decode(stand, ppo.roles, "policy")}
    with stand.tally.part(ADAPTERS):
        roles = Roles(stand.base)
        roles.add("policy", lora_config(stand.base, stand.ways.rank, 2 * stand.ways.rank))
    return {"sample": Decode(stand, roles, "policy")}


def size_of(stage: StageName, step: str, stand: Stand, units: int) -> tuple[int, int]:
    """Answers in so many units of a step, and its tokens as the stage's own budget counts them."""
    shape = stand.shape
    if stage == "sft" or step == "sample":
        return units, units * (shape.prompt + shape.response)
    if stage == "reward":
        rows = widths(stand.examples(shape.compared, shape.compared), stand.answers_a_unit > 1)
        return units * shape.compared, 2 * units * max(rows) * len(rows)
    blocks = (2 if step == "update" else 2 + stand.ways.members) - (stand.ways.value == "trunk")
    tokens = blocks * units * stand.row(gradients=step == "update")
    return units * stand.answers_a_unit, tokens // LIGHTER if step == "judge" else tokens


def largest(total: Callable[[int], int], room: int, limit: int) -> int:
    """The most units whose total is at most `room`; 0 if one is not. Totals grow almost in a straight line.

    What is returned was tried; that one more would not fit may be the line's word.
    """
    known = {1: total(1)}
    if known[1] > room:
        return 0
    low, high, guess = 1, limit + 1, min(4, limit)
    while high - low > 1:
        known[guess] = total(guess)
        low, high = (guess, high) if known[guess] <= room else (low, guess)
        a, b = (low, high) if high in known else sorted(known)[-2:]
        slope = max(1.0, (known[b] - known[a]) / (b - a))
        straight = int(a + (room - known[a]) / slope)
        if straight == low and high not in known and known[b] > known[a]:
            break
        guess = min(max(straight if len(known) <= STRAIGHT else (low + high) // 2, low + 1), high - 1)
    return low


class Rehearsal:
    """A stage on one or two depths of the model; runs within `without_data`."""

    def __init__(self, setup: Setup, stage: StageName, ways: Ways) -> None:
        self.setup, self.stage = setup, stage
        # At both depths there are layers below those that are trained.
        least = ways.top_layers + 1 if ways.top_layers else 0
        self.layers = depths(setup.config, setup.exact, least)
        self.stands = [stand_of(setup, ways, layers) for layers in self.layers]
        self.steps: list[dict[str, Step]] = []
        for stand in self.stands:
            with stand.tally:
                self.steps.append(steps_of(stage, stand))
        self.tried: dict[tuple[str, int], Found] = {}

    def limit(self, step: str) -> int:
        """Units beyond which nobody needs more."""
        answers = LIGHTER * self.setup.limit if step == "judge" else self.setup.limit
        return max(1, answers // size_of(self.stage, step, self.stands[0], 1)[0])

    def at(self, step: str, units: int) -> Found:
        """A step with so many units, executed once; solved for the model's own depth phase by phase."""
        if (step, units) not in self.tried:
            peaks = []
            for stand, steps in zip(self.stands, self.steps, strict=True):
                with stand.tally:
                    peaks.append(stand.peaks(steps[step], units))
            whole = depth_of(self.setup.config)
            phases = [solved(list(phase), self.layers, whole) for phase in zip(*peaks, strict=True)]
            peak = max(phases, key=lambda phase: phase.bytes)
            self.tried[step, units] = Found(units, *size_of(self.stage, step, self.stands[0], units), peak)
        return self.tried[step, units]

    def largest(self, step: str, room: int) -> Found:
        """The largest batch of a step in a room of bytes."""
        units = largest(lambda n: self.at(step, n).total, room, self.limit(step))
        return self.at(step, units) if units else Found(0, 0, 0, self.at(step, 1).peak)


def fit(setup: Setup, stage: StageName, ways: Ways, rooms: Sequence[int]) -> list[dict[str, Found]]:
    """For each room (bytes), the largest batch of every step of the stage."""
    with without_data(setup.gpu):
        rehearsal = Rehearsal(setup, stage, ways)
        return [{step: rehearsal.largest(step, room) for step in rehearsal.steps[0]} for room in rooms]


def fits(setup: Setup, stage: StageName, ways: Ways, room: int) -> bool:
    """Whether every step of the stage fits into a room of bytes with one unit at least."""
    with without_data(setup.gpu):
        rehearsal = Rehearsal(setup, stage, ways)
        return all(rehearsal.at(step, 1).total <= room for step in rehearsal.steps[0])


def way_out(setup: Setup, stage: StageName, ways: Ways, room: int) -> Ways | None:
    """Options with which a stage fits that does not with these, as few others as will do; None if there are none."""
    others = list(ways.lighter(stage))
    if not others or not fits(setup, stage, others[-1], room):
        return None
    return next(other for other in others if other == others[-1] or fits(setup, stage, other, room))
