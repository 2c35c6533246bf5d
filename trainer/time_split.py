"""How an iteration of PPO shares out its time, estimated by what must be computed and read; nothing here was measured.

A card of the RTX 4090's class: 165 TFLOP/s in 16 bits and 1008 GB/s by its data sheet, of which half and 0.7 are reached. A
pass of a token through the frozen base is 2 operations a parameter, forward or backward (inputs only), and once more with
checkpointing; a decoding step reads all weights; a quantised layer is also written and read in 16 bits once a micro-batch.
"""

from dataclasses import dataclass

from trainer.models import Quantization
from trainer.rehearsal import Shape
from trainer.ways import Ways

COMPUTE = 0.5 * 165e12  # operations a second
BANDWIDTH = 0.7 * 1008e9  # bytes a second
EPISODES, UPDATES = 32, 4  # answers a rollout, and updates in a pass over them: PPO's defaults


@dataclass(frozen=True, slots=True)
class Work:
    """`parameters` that every token meets, `weights` in bytes; answers at once in sampling, judging and updates."""

    parameters: int
    weights: int
    quantization: Quantization
    sample: int
    judge: int
    update: int


def time_split(work: Work, shape: Shape, ways: Ways) -> dict[str, float]:
    """Shares of an iteration's time in sampling, judging and updates; they add up to 1."""
    a_token = 2 * work.parameters / COMPUTE
    unpacking = 0.0 if work.quantization == "none" else 2 * 2 * work.parameters / BANDWIDTH
    tokens = EPISODES * (shape.prompt + shape.response)
    trunk = ways.value == "trunk"

    def passes(at_once: int, count: int, times: int) -> float:
        return times * (count * tokens * a_token + -(-EPISODES // at_once) * unpacking)

    step = max(work.weights / BANDWIDTH, min(work.sample, EPISODES) * a_token)
    reading = EPISODES / shape.samples * shape.prompt * a_token
    seconds = {
        "generate": reading + -(-EPISODES // work.sample) * shape.response * step,
        "score": passes(work.judge, 2 if trunk else 3, 1),
        "train": passes(min(work.update, EPISODES // UPDATES), 1 if trunk else 2, 3 if ways.checkpointing else 2),
    }
    whole = sum(seconds.values())
    return {name: value / whole for name, value in seconds.items()}
