"""All generators of random numbers that code of ours, of a library or of a reward function may draw from."""

import random
from typing import Any

import numpy as np
import torch

State = dict[str, Any]


def seed(number: int) -> None:
    """Begin all of them from this number."""
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.manual_seed(number)


def state_dict(device: torch.device) -> State:
    """Where Python's, numpy's and torch's are, and the device's if it has one; plain numbers and tensors."""
    name, key, *rest = np.random.get_state()
    found: State = {
        "python": random.getstate(), "numpy": (str(name), torch.from_numpy(np.array(key, np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }  # fmt: skip
    return found | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def load_state_dict(state: State, device: torch.device) -> None:
    """Go on from there; a device that the state does not know, from where it is."""
    random.setstate(state["python"])
    name, key, *rest = state["numpy"]
    np.random.set_state((name, key.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
