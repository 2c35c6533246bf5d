"""The memory planner: what fits on a card, found by executing the stages' steps without data before anything is loaded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from preferences.errors import RankloopError
from trainer.embedded import EMBEDDED
from trainer.fitting import GIB, Found, Setup, fit, way_out
from trainer.footprint import Footprint, footprint, weight_bytes
from trainer.head import changes_logits
from trainer.known_models import find_config
from trainer.models import Quantization
from trainer.optimizers import OptimizerName
from trainer.rehearsal import Shape
from trainer.tally import PARTS, WEIGHTS
from trainer.time_split import Work, time_split
from trainer.ways import StageName, Ways

TEXT_ALONE = "Planned is the text model alone, which is all that is loaded; the download has the other parts too."
REFUSED = "This model changes its logits behind the head: no stage takes it (docs/models.md)."
STAGES: tuple[StageName, ...] = ("sft", "sample", "reward", "ppo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Say, before anything is loaded or downloaded, what fits on a GPU: where its memory goes, and the largest batches."""

    model: str = EMBEDDED
    """A known model (gpt-neox-20b, llama-3.1-8b, ...), a config.json or its folder, or a hub id that is in the cache."""
    quantize: Quantization = "int8"
    """Quantisation of the frozen base."""
    vram: float = 24.0
    """GiB of the card: 24 for one that is sold as "24 GB"."""
    prompt: int = 256
    """Tokens of a prompt."""
    response: int = 128
    """Tokens of an answer."""
    samples: int = 4
    """Answers to a prompt."""
    stages: tuple[StageName, ...] = STAGES
    """Which stages to plan."""
    rank: int = 16
    """Rank of the adapters."""
    checkpointing: bool | None = None
    """Gradient checkpointing; default: only where nothing fits without it."""
    value: Literal["adapter", "trunk"] | None = None
    """PPO's value; default: an adapter of its own, or the policy's trunk where that does not fit. Without one (rloo) PPO
    takes hardly less than with trunk."""
    optimizer: OptimizerName = "adamw"
    """Of sft, reward and ppo. Paged states count as if they were on the card, where they are while there is room."""
    members: int = 1
    """Reward models of an ensemble, in reward and ppo."""
    top_layers: int | None = None
    """Layers below the head that PPO trains, in one epoch; default all."""
    common: int = 0
    """Tokens that all prompts begin with, of `prompt`: a system prompt, or the chat template's own. PPO reads them once."""
    limit: int = 64
    """Answers beyond which no batch needs to be larger."""
    exact: bool = False
    """Execute all layers, not a few of them at two depths from which the rest is solved; takes minutes for a large model."""
    json: bool = False
    """Print one JSON document alone on stdout."""

    def __post_init__(self) -> None:
        names = ["vram", "prompt", "response", "samples", "rank", "limit", "members"]
        names += ["top_layers"] if self.top_layers is not None else []
        wrong = [f"{name} must be above 0, not {getattr(self, name)}" for name in names if not getattr(self, name) > 0]
        if not 0 <= self.common < max(1, self.prompt):
            wrong.append(f"common must be from 0 to below prompt ({self.prompt}), not {self.common}")
        if not self.stages:
            wrong.append("stages must name at least one stage")
        if wrong:
            raise RankloopError("; ".join(wrong) + ".")

    @property
    def shape(self) -> Shape:
        """What a batch is made of."""
        return Shape(self.prompt, self.response, self.samples, self.common)

    def ways(self, stage: StageName) -> Iterator[Ways]:
        """Options of the stage to try, the fastest first."""
        if stage == "sample":
            yield Ways(rank=self.rank)
            return
        members = self.members if stage in {"reward", "ppo"} else 1
        top_layers = self.top_layers if stage == "ppo" else None
        first = Ways(False, self.value or "adapter", self.rank, self.optimizer, members, top_layers)
        checkpointings = (False, True) if self.checkpointing is None else (self.checkpointing,)
        for checkpointing in checkpointings:
            yield replace(first, checkpointing=checkpointing)
        if stage == "ppo" and self.value is None:
            yield replace(first, checkpointing=checkpointings[-1], value="trunk")


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A stage on a card of `room` bytes: the options it needs, and the largest batch of each of its steps."""

    stage: StageName
    room: int
    ways: Ways
    steps: dict[str, Found]

    @property
    def fits(self) -> bool:
        """Whether every step fits with at least one answer."""
        return all(found.units for found in self.steps.values())

    @property
    def tightest(self) -> Found:
        """The step that takes most, among those that do not fit if there are any."""
        return max(self.steps.values(), key=lambda found: (not found.units, found.total))

    @property
    def options(self) -> dict[str, Any]:
        """What to give the stage on its command line."""
        ways = self.ways
        options: dict[str, Any] = {"checkpointing": True} if ways.checkpointing else {}
        options |= {"optimizer": ways.optimizer} if ways.optimizer != "adamw" else {}
        if self.stage == "reward" and ways.members > 1:
            options["members"] = ways.members
        if self.stage == "sft":
            return {**options, "batch": self.steps["update"].units}
        if self.stage == "ppo":
            options |= {"value": ways.value} if ways.value != "adapter" else {}
            options |= {"top_layers": ways.top_layers} if ways.top_layers else {}
            passes = min(self.steps[name].tokens for name in ("update", "judge"))
            return {**options, "token_budget": passes, "sample_budget": self.steps["sample"].tokens}
        return {**options, "token_budget": self.steps["sample" if self.stage == "sample" else "update"].tokens}

    @property
    def batch(self) -> int:
        """Answers at once where gradients are found, or where there are none, in sampling; 0 if the stage does not fit."""
        step = self.steps.get("update") or self.steps["sample"]
        return step.answers if self.fits else 0

    def as_json(self) -> dict[str, Any]:
        """For people and programs, in GiB."""
        found = self.tightest
        parts = {part: round(found.peak.parts[part] / GIB, 3) for part in PARTS if found.peak.parts[part]}
        return {
            "fits": self.fits,
            "total_gib": round(found.total / GIB, 2),
            "parts": {**parts, "reserve": round(found.reserve / GIB, 3)},
            "batch": self.batch,
            "options": self.options if self.fits else {},
            "steps": {
                name: {"batch": step.answers, "tokens": step.tokens, "total_gib": round(step.total / GIB, 2)}
                for name, step in self.steps.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Planned:
    """All stages on one card. `time`: shares of PPO's phases; `change`: what to change if they do not fit; `notes`: what
    was left out, and whether no stage takes the model."""

    config: Plan
    stages: list[StagePlan]
    footprint: Footprint
    time: dict[str, float] = field(default_factory=dict)
    change: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def tightest(self) -> StagePlan:
        """The stage that decides."""
        return max(self.stages, key=lambda plan: (not plan.fits, plan.tightest.total))

    def as_json(self) -> dict[str, Any]:
        """The document of `trainer plan --json`."""
        tightest = self.tightest.as_json()
        batch = min(plan.batch for plan in self.stages)
        return {
            "model": self.config.model, "quantize": self.config.quantize, "vram_gib": self.config.vram,
            "fits": all(plan.fits for plan in self.stages), "total_gib": tightest["total_gib"],
            "parts": tightest["parts"], "batch": batch, "tightest": self.tightest.stage,
            "stages": {plan.stage: plan.as_json() for plan in self.stages},
            **self.footprint.as_json(),
            "time_split": {name: round(share, 3) for name, share in self.time.items()}, "change": self.change,
            "notes": self.notes,
        }  # fmt: skip


def plan(config: Plan) -> Planned:
    """Plan every stage. Raises UnknownModel."""
    return plans(config, [config.vram])[0]


def plans(config: Plan, cards: Sequence[float]) -> list[Planned]:
    """The plans of several cards (GiB); each step is executed once for all of them."""
    model, checkpoint, within = find_config(config.model)
    setup = Setup(model, config.quantize, config.shape, config.limit, exact=config.exact)
    stages = [stage_plans(config, setup, stage, [int(card * GIB) for card in cards]) for stage in config.stages]
    weights = stages[0][0].tightest.peak.parts[WEIGHTS]
    size = footprint(setup, checkpoint, config.model, config.rank, weights)
    notes = [*([TEXT_ALONE] if within else []), *([REFUSED] if changes_logits(model) else [])]
    made = []
    for number, card in enumerate(cards):
        planned = Planned(replace(config, vram=card), [found[number] for found in stages], size, notes=notes)
        made.append(replace(planned, time=split(planned), change=remedies(planned, setup)))
    return made


def split(planned: Planned) -> dict[str, float]:
    """The shares of PPO's phases, if it is planned and fits."""
    for stage in planned.stages:
        if stage.stage == "ppo" and stage.fits:
            answers = {name: found.answers for name, found in stage.steps.items()}
            weights = stage.tightest.peak.parts[WEIGHTS]
            work = Work(planned.footprint.parameters, weights, planned.config.quantize, **answers)
            return time_split(work, planned.config.shape, stage.ways)
    return {}


def stage_plans(config: Plan, setup: Setup, stage: StageName, rooms: Sequence[int]) -> list[StagePlan]:
    """One stage on cards of so many bytes, each with the fastest options with which it fits, or the last ones tried."""
    settled: dict[int, StagePlan] = {}
    for ways in config.ways(stage):
        open_ = [room for room in rooms if room not in settled or not settled[room].fits]
        if open_:
            for room, steps in zip(open_, fit(setup, stage, ways, open_), strict=True):
                settled[room] = StagePlan(stage, room, ways, steps)
    return [settled[room] for room in rooms]


def remedies(planned: Planned, setup: Setup) -> list[str]:
    """What would make it fit; nothing if it does."""
    config, tightest = planned.config, planned.tightest
    if tightest.fits:
        return []
    found, sentences = tightest.tightest, []
    weights = found.peak.parts[WEIGHTS] / GIB
    if weights < config.vram:
        for stage in planned.stages:
            other = None if stage.fits else way_out(setup, stage.stage, stage.ways, stage.room)
            if other:
                sentences.append(f"{other.flags(stage.ways)}: {stage.stage} fits then.")
    if config.quantize != "nf4":
        smaller = weight_bytes(replace(setup, quantization="nf4")) / GIB
        sentences.append(f"--quantize nf4: the weights take {smaller:.1f} GiB instead of {weights:.1f}.")
    if weights < config.vram:
        sentences.append("Shorter --prompt or --response, fewer --samples, or a smaller --rank.")
    sentences.append(f"A card of at least {found.total / GIB:.1f} GiB, or a smaller model.")
    return sentences
