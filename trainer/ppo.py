"""PPO from learned and programmed rewards: policy, reference, value and reward are adapters on one frozen base."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from preferences.errors import RankloopError
from preferences.records import Policy, Prompt, Study
from preferences.rounds import check_accuracy, check_promotes
from preferences.store import Store
from trainer.going_on import folder_of, kept, out_or_resume, resumed
from trainer.last_good import keep_last_good
from trainer.learner import UpdateRule
from trainer.models import Base
from trainer.optimizers import OptimizerName
from trainer.policies import sampling_policies
from trainer.ppo_trainer import PpoTrainer
from trainer.runs import Run, check_free, run_in
from trainer.screen import check_tracker
from trainer.stage import Stage, check_name, open_study, register
from trainer.world import ALONE, World

POSITIVE = (
    "iterations", "episodes", "samples", "epochs", "minibatches", "lr", "value_lr", "clip", "value_clip", "score_clip",
    "max_grad_norm", "temperature", "max_new_tokens", "rank", "save_every",
    "keep", "show_every", "weight_clip", "concurrency",
)  # fmt: skip
MAYBE_POSITIVE = ("token_budget", "sample_budget", "kl_target", "kl_horizon", "stop_kl", "top_layers")  # or None
NOT_NEGATIVE = ("beta", "missing_eos_penalty", "value_weight", "reward_weight", "pessimism", "snapshots")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ppo(Stage):
    """Improve a policy against a reward; the result becomes the study's next sampling policy.

    docs/ppo.md says what the defaults rest on.
    """

    out: Path | None = None
    """Folder of the run."""
    resume: Path | None = None
    """Go on with the run in this folder, under its own options, from its newest checkpoint."""
    reward: Path | None = None
    """The reward model: the 'adapter' folder of a reward run."""
    reward_weight: float = 1.0
    """Weight of the reward model's normalised score."""
    pessimism: float = 0.0
    """Take this many times the spread of an ensemble's members off their mean score (arXiv 2310.02743)."""
    functions: tuple[str, ...] = ()
    """Rewards in Python, each as FILE.py:FUNCTION or MODULE:FUNCTION, with =WEIGHT behind it if it is not 1."""
    start: str | None = None
    """Policy to start from; default the study's sampling policy."""
    reference: str | None = None
    """Policy that the KL is measured from; default the SFT policy that the start comes from, however many rounds ago
    (without one, the first of its line)."""
    name: str | None = None
    """Name of the new policy; default the run folder's."""
    iterations: int = 12
    """Rollouts, each followed by its updates."""
    episodes: int = 32
    """Answers a rollout."""
    samples: int = 1
    """Answers to each prompt of a rollout; they share its computation."""
    epochs: int = 1
    """Passes over each rollout."""
    minibatches: int = 4
    """Updates a pass; fewer where a rollout has fewer prompts, since the answers to one stay together."""
    advantage: Literal["gae", "rloo"] = "gae"
    """gae: against a learned value; rloo: against the prompt's other answers (samples must be at least 2)."""
    value: Literal["adapter", "trunk"] = "adapter"
    """With gae. adapter: its own, which starts as the reward's; trunk: a head on the policy's states, which costs no pass."""
    lr: float = 3e-4
    """Learning rate of the policy's adapter; linear decay."""
    value_lr: float = 6e-4
    """Learning rate of the value's adapter and head, or of the head alone if it is on the policy's trunk; linear decay."""
    value_weight: float = 0.1
    """Weight of the value's loss where it shares the policy's trunk; with an adapter of its own it is 1."""
    top_layers: int | None = None
    """Train only this many layers below the head; default all. What enters them is computed once for all epochs."""
    beta: float = 0.05
    """Weight of the KL penalty."""
    kl_target: float | None = None
    """Steer beta so that the KL of an answer stays near this many nats; default beta is fixed."""
    kl_horizon: float | None = None
    """Episodes in which beta may change by about a fifth; default a tenth of the run's, but never less than a rollout's."""
    stop_kl: float | None = None
    """End an iteration's epochs once the policy is this far (KL in nats a token) from its rollout; default never."""
    clip: float = 0.2
    """How far the ratio may move in one rollout."""
    dual_clip: float | None = None
    """Where the advantage is negative, the ratio counts as at most this (above 1; 3 is usual); default no such bound."""
    value_clip: float = 0.2
    """How far values may move in one rollout."""
    gamma: float = 1.0
    """Discount."""
    lam: float | None = None
    """GAE's lambda; default 0.95 where the value starts as the reward model's copy, else 1, which relies on no value."""
    missing_eos_penalty: float = 1.0
    """Taken off the score of an answer that does not end itself."""
    normalise: bool = False
    """Divide scores by the running standard deviation of all scores so far, around their running mean."""
    score_clip: float = 5.0
    """Scores are kept within this."""
    max_grad_norm: float = 1.0
    """Gradients of the policy, and those of the value, are scaled down to this norm."""
    optimizer: OptimizerName = "adamw"
    """AdamW with its states in 32 bits, in 8, or in 8 and paged: moved to the machine's memory when the card's runs out."""
    checkpointing: bool = False
    """Keep only the layers' inputs for the backward pass: less memory, one more forward pass."""
    temperature: float = 0.8
    """Sampling temperature of the rollouts."""
    max_new_tokens: int = 128
    """Answers are cut after this many tokens."""
    token_budget: int | None = None
    """Tokens a micro-batch, all roles together; default what fits on the GPU, 4096 on a CPU; halved when memory runs out."""
    sample_budget: int | None = None
    """Prompt and answer tokens sampled at once; default what fits on the GPU, 6144 on a CPU."""
    endpoint: str | None = None
    """Let the server at this address draw the rollouts (vLLM with --enable-lora: docs/scale.md); it loads the adapter before
    each and must see the run's folder."""
    weight_clip: float = 2.0
    """With --endpoint: tokens weigh by how much likelier they are under the policy than under the server, at most this."""
    concurrency: int = 8
    """With --endpoint: requests at once."""
    rank: int = 16
    """Rank of the policy's adapter if it starts from the plain base."""
    save_every: int = 1
    """Iterations between two checkpoints."""
    keep: int = 2
    """Checkpoints that are kept."""
    snapshots: int = 3
    """Adapters that are kept on the way, evenly spread, as policies NAME@ITERATION: what `trainer report` compares, and what
    can be ranked blind."""
    show_every: int = 5
    """Iterations between two looks at the answers to the same few prompts (samples.jsonl)."""
    tracker: Literal["none", "tensorboard", "trackio", "wandb"] = "none"
    """Where metrics go besides the run's folder."""
    sample_next: bool = True
    """Let the new policy answer the study's prompts from now on."""

    def __post_init__(self) -> None:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        maybe = [name for name in MAYBE_POSITIVE if values[name] is not None]
        wrong = [f"{name} must be above 0, not {values[name]}" for name in (*POSITIVE, *maybe) if values[name] <= 0]
        for name in NOT_NEGATIVE:
            if values[name] < 0:
                wrong.append(f"{name} must be at least 0, not {values[name]}")
        for name in ("gamma", "lam"):
            if values[name] is not None and not 0 <= values[name] <= 1:
                wrong.append(f"{name} must be from 0 to 1, not {values[name]}")
        if self.dual_clip is not None and self.dual_clip <= 1:
            wrong.append(f"dual_clip must be above 1, not {self.dual_clip}")
        if not wrong:
            wrong += self.inconsistencies()
        if wrong:
            raise RankloopError("; ".join(wrong) + ".")

    def inconsistencies(self) -> list[str]:
        """What does not fit together."""
        wrong = []
        wrong += out_or_resume(self)
        if self.resume is None and self.reward is None and not self.functions:
            wrong.append("give --reward, --functions or both")
        if self.episodes % self.samples:
            wrong.append(f"episodes ({self.episodes}) must be a multiple of samples ({self.samples})")
        if self.kl_target is not None and not self.beta:
            wrong.append("--kl-target steers beta, which must then be above 0")
        if self.kl_target is not None and self.horizon() < self.episodes:
            wrong.append(f"kl_horizon must be at least episodes ({self.episodes}), not {self.kl_horizon:g}")
        if self.advantage == "rloo" and self.samples < 2:
            wrong.append(
                f"advantage rloo compares the answers to a prompt: samples must be at least 2, not {self.samples}"
            )
        return wrong

    def horizon(self) -> float:
        """`kl_horizon`, or its default."""
        return self.kl_horizon or self.episodes * max(1.0, self.iterations / 10)

    def gae_lambda(self) -> float:
        """`lam`, or its default: below 1 the value's errors bias the advantages (arXiv 1506.02438, section 4), and one that
        starts from nothing is hardly more than error."""
        if self.lam is not None:
            return self.lam
        return 0.95 if self.reward and self.value == "adapter" else 1.0

    def value_in_memory(self) -> Literal["adapter", "trunk"]:
        """`value`; without one a run takes hardly less than one with a value on the policy's trunk."""
        return "trunk" if self.advantage == "rloo" else self.value

    def snapshot_steps(self) -> list[int]:
        """After which iterations an adapter is kept; the last one's is the run's own."""
        parts = self.snapshots + 1
        steps = {round(i * self.iterations / parts) for i in range(1, parts)}
        return sorted(steps - {0, self.iterations})

    @property
    def folder(self) -> Path:
        """Where the run is."""
        return folder_of(self)

    def update_rule(self) -> UpdateRule:
        """What the learner must know."""
        weight = self.value_weight if self.value == "trunk" else 1.0
        return UpdateRule(
            self.epochs, self.minibatches, self.clip, self.dual_clip, self.value_clip, weight, self.max_grad_norm,
            self.stop_kl, self.checkpointing, self.optimizer, self.top_layers,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Material:
    """What a run takes from the database: its options (those it was begun with, if it goes on), its start, and prompts."""

    config: Ppo
    study: Study
    start: Policy
    reference: Policy
    prompts: list[Prompt]


def ppo(config: Ppo, store: Store, base: Base, world: World = ALONE) -> dict[str, Any]:
    """Train, save the policy's adapter, register the policy; {"policy", "adapter", "kl", "scores", "iterations"}.

    `store` is asked by the main process alone.
    """
    run = run_in(config.folder, world)
    material = world.told(lambda: read(config, store, base, run))
    if world.sharded and material.config.top_layers:
        raise RankloopError("--top-layers takes a whole base on each card, not one in parts (FSDP2); leave it out.")
    config, study, start, prompts = material.config, material.study, material.start, material.prompts
    trainer = PpoTrainer(
        config, base, start, run, material.reference, world
    )  # refuses a wrong adapter, before it writes
    if config.resume:
        trainer.resume()
    else:
        if trainer.reward:
            check_accuracy(study, trainer.reward.card.get("heldout_accuracy"))
        judge = {"judged_by": str(config.reward.resolve())} if config.reward else {}
        facts = {"parent": start.id, "reference": material.reference.id, "prompts": len(prompts), **judge}
        run.keep_prompts([prompt.id for prompt in prompts])
        run.start("ppo", config, base, study=study.id, processes=world.size, **facts)
    return finish(config, store, study, start, trainer, train(trainer, start, prompts))


def read(config: Ppo, store: Store, base: Base, run: Run) -> Material:
    """The material of a run. Raises RankloopError if there are no prompts or no tracker, or if folder or names are taken."""
    if config.resume:
        config = resumed(config, "ppo")
    check_tracker(config.tracker)
    wanted = run.config().get("study", config.study) if config.resume else config.study
    study, name = open_study(store, wanted), config.name or run.folder.name
    if not config.resume:
        check_free(run.folder)
        if config.sample_next:
            check_promotes(study)
        for policy in (name, *(snapshot_name(name, step) for step in config.snapshot_steps())):
            check_name(store, policy)
    start = starting_policy(config, store, study, base, run)
    prompts = store.prompts.all("train", study.id)
    if config.resume:
        prompts = kept(prompts, study, run)
    if not prompts:
        raise RankloopError(f"Study {study.name!r} has no training prompts; import some with `labeler import prompts`.")
    return Material(config, study, start, reference_policy(config, store, start, run), prompts)


def train(trainer: PpoTrainer, start: Policy, prompts: list[Prompt]) -> dict[str, Any]:
    """The last metrics. Of a run that fails or is interrupted the folder says so, and holds the last good adapter."""
    try:
        return trainer.train(prompts)
    except (Exception, KeyboardInterrupt) as error:
        if trainer.world.main:
            keep_last_good(trainer, start.id, error)
        raise


def finish(
    config: Ppo, store: Store, study: Study, start: Policy, trainer: PpoTrainer, metrics: dict[str, Any]
) -> dict[str, Any]:
    """Save and register what was trained."""
    run = trainer.run
    if not trainer.world.main:
        return {}
    card = {"kind": "ppo", "parent": start.id, "iterations": trainer.done}
    trainer.roles.save("policy", run.adapter, card)
    facts = {"parent": start.id, "data_hash": str(trainer.reward.card.get("data_hash", "")) if trainer.reward else ""}
    settings, name = run.config()["config"], config.name or run.folder.name
    policy = register(
        store, study, name, "ppo", trainer.roles.base, run.adapter, config.sample_next, config=settings, **facts
    )
    kept = []
    for step in config.snapshot_steps():
        folder = run.snapshot(step)
        if folder.is_dir():
            at = {"config": {**settings, "iteration": step}, **facts}
            made = register(store, study, snapshot_name(name, step), "ppo", trainer.roles.base, folder, False, **at)
            kept.append({"iteration": step, "policy": made.id, "name": made.name})
    run.finish(policy=policy.id, iterations=trainer.done, snapshots=kept, **metrics)
    return {
        "policy": policy.name, "adapter": str(run.adapter), "iterations": trainer.done,
        "kl": metrics["objective/kl"], "scores": metrics["objective/scores"],
    }  # fmt: skip


def snapshot_name(name: str, step: int) -> str:
    """What the policy after so many iterations is called."""
    return f"{name}@{step}"


def starting_policy(config: Ppo, store: Store, study: Study, base: Base, run: Run) -> Policy:
    """The policy that the run starts from; a resumed one's is the one that it was started with."""
    if config.resume:
        return store.policies.get(run.config()["parent"])
    return store.policies.get(config.start) if config.start else sampling_policies(store, study, base)[-1]


def reference_policy(config: Ppo, store: Store, start: Policy, run: Run) -> Policy:
    """The policy that the KL is measured from; a resumed run's is the one that it was started with."""
    if config.resume:
        return store.policies.get(run.config().get("reference", start.id))
    return store.policies.get(config.reference) if config.reference else store.policies.anchor(start)
