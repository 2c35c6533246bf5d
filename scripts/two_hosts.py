"""PPO across two hosts: once undisturbed, and once with one of them killed and the run resumed; losses side by side."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from preferences.cli import guarded
from preferences.errors import RankloopError
from preferences.exchange.importing import import_prompts
from preferences.store import Store
from scripts.loop import prompt_file, tiny_model

PORT = 29400
SHOWN = ("loss/policy_avg", "loss/value_avg", "objective/kl")
PATIENCE = 300  # seconds


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace with one end of the cable."""

    name: str
    address: str
    cable: str


HOSTS = (Host("rankloop-a", "10.77.0.1", "rl-a"), Host("rankloop-b", "10.77.0.2", "rl-b"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoHosts:
    """PPO on a tiny random model across two network namespaces; needs root and iproute2."""

    iterations: int = 12
    """Rollouts."""
    kill_after: int = 2
    """Kill the second host once so many rollouts are in a checkpoint."""
    json: Path | None = None
    """Write the losses of both sides to this file."""


def reward(prompts: Sequence[Any], responses: Sequence[str]) -> list[float]:
    """What PPO is after here: the share of the letter e."""
    del prompts
    return [text.count("e") / (len(text) + 1) for text in responses]


def play(config: TwoHosts) -> dict[str, Any]:
    """Both runs; {"whole": [...], "resumed": [...], "sides": [[...], [...]]}: losses of each iteration."""
    check_machine()
    folder = Path(tempfile.mkdtemp(prefix="rankloop-two-hosts-"))
    words = prepared(folder, config.iterations)
    whole, broken = folder / "whole", folder / "broken"
    with cable():
        print("== both hosts, undisturbed", flush=True)
        finish(folder, begin(folder, [*words, "--out", str(whole)]))
        sides = [losses(whole / name) for name in ("metrics.jsonl", "metrics.1.jsonl")]
        show(sides)
        print(f"== the second host is killed after {config.kill_after} rollouts", flush=True)
        processes = begin(folder, [*words, "--out", str(broken)])
        kill(processes, broken / "checkpoints", config.kill_after)
        done = len(losses(broken / "metrics.jsonl"))
        print(f"after {done} rollouts; the first host has ended by itself with {processes[0].returncode}", flush=True)
        print("== both hosts go on", flush=True)
        finish(folder, begin(folder, [*words[:7], "--resume", str(broken)]))
    resumed = losses(broken / "metrics.jsonl")
    if resumed != sides[0] or losses(broken / "metrics.1.jsonl") != resumed:
        raise RankloopError(f"The resumed run is another one than the undisturbed one; look at {folder} and report it.")
    print(f"resumed: the same {len(resumed)} losses on both sides as undisturbed, to the last bit")
    shutil.rmtree(folder)
    return {"whole": sides[0], "resumed": resumed, "sides": sides}


def check_machine() -> None:
    """Raises RankloopError if namespaces cannot be made here."""
    if os.geteuid() != 0:
        raise RankloopError("scripts/two_hosts makes network namespaces, which takes root; run it with sudo.")
    if shutil.which("ip") is None:
        raise RankloopError("scripts/two_hosts needs the command ip; install it with apt-get install iproute2.")


def prepared(folder: Path, iterations: int) -> list[str]:
    """A database and a model; the words of the command, without a folder."""
    store = Store(folder / "two.db")
    import_prompts(store, store.studies.default(), prompt_file(folder, 16), heldout=0.0)
    store.close()
    common = ["ppo", "--db", str(folder / "two.db"), "--model", tiny_model(folder), "--quantize", "none"]
    return [
        *common, "--functions", f"{Path(__file__).resolve()}:reward", "--iterations", str(iterations), "--episodes", "8",
        "--samples", "2", "--epochs", "2", "--max-new-tokens", "16", "--lr", "1e-3", "--kl-target", "1.0",
        "--no-sample-next",
    ]  # fmt: skip


@contextmanager
def cable() -> Iterator[None]:
    """Within, there are two hosts with a cable between them. What an earlier, killed call left is taken away first."""
    remove()
    ip("link", "add", HOSTS[0].cable, "type", "veth", "peer", "name", HOSTS[1].cable)
    try:
        for host in HOSTS:
            ip("netns", "add", host.name)
            ip("link", "set", host.cable, "netns", host.name)
            ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", host.cable)
            for link in ("lo", host.cable):
                ip("-n", host.name, "link", "set", link, "up")
        yield
    finally:
        remove()


def remove() -> None:
    """The hosts, and a cable that never came into one."""
    for host in HOSTS:
        for words in (("netns", "del", host.name), ("link", "del", host.cable)):
            subprocess.run(["ip", *words], stderr=subprocess.DEVNULL, check=False)


def ip(*words: str) -> None:
    """One command of iproute2. Raises RankloopError."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RankloopError(
            f"ip {' '.join(words)} failed ({done.stderr.strip()}); run this on a machine that may do it."
        )


def begin(folder: Path, words: list[str]) -> list["subprocess.Popen[bytes]"]:
    """torchrun on both hosts, each with a cache, and so a lock of its device, of its own."""
    processes = []
    for rank, host in enumerate(HOSTS):
        launcher = [
            "torch.distributed.run", "--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "1",
            "--master-addr", HOSTS[0].address, "--master-port", str(PORT),
        ]  # fmt: skip
        own = {
            "GLOO_SOCKET_IFNAME": host.cable, "OMP_NUM_THREADS": "1", "RANKLOOP_CACHE": str(folder / f"cache-{rank}"),
            "CUDA_VISIBLE_DEVICES": "",
        }  # fmt: skip
        command = ["ip", "netns", "exec", host.name, sys.executable, "-m", *launcher, "-m", "trainer", *words]
        said = (folder / f"{host.name}.log").open("ab")
        processes.append(
            subprocess.Popen(command, env={**os.environ, **own}, stdout=said, stderr=said, start_new_session=True)
        )
    return processes


def finish(folder: Path, processes: list["subprocess.Popen[bytes]"]) -> None:
    """Wait for both. Raises RankloopError if one failed."""
    for host, process in zip(HOSTS, processes, strict=True):
        if process.wait(PATIENCE):
            raise RankloopError(f"{host.name} ended with {process.returncode}; read {folder / host.name}.log.")


def kill(processes: list["subprocess.Popen[bytes]"], checkpoints: Path, after: int) -> None:
    """SIGKILL for everything on the second host once a checkpoint of so many rollouts, or of more, is there; the first one
    must end by itself."""
    deadline = time.monotonic() + PATIENCE
    while not any(int(checkpoint.stem) >= after for checkpoint in checkpoints.glob("*.pt")):
        if any(process.poll() is not None for process in processes) or time.monotonic() > deadline:
            raise RankloopError(f"The run ended before {after} rollouts were in {checkpoints}; give more --iterations.")
        time.sleep(0.01)
    there = subprocess.run(["ip", "netns", "pids", HOSTS[1].name], capture_output=True, text=True, check=True).stdout
    for pid in there.split():  # torchrun's, and that of the training that it began in a session of its own
        os.kill(int(pid), signal.SIGKILL)
    for process in processes:
        process.wait(PATIENCE)


def losses(file: Path) -> list[list[float]]:
    """What is compared, of each iteration."""
    return [[json.loads(line)[name] for name in SHOWN] for line in file.read_text().splitlines()]


def show(sides: list[list[list[float]]]) -> None:
    """Side by side. Raises RankloopError if they differ anywhere."""
    print(f"{'rollout':>7}  " + "  ".join(f"{host.name + ' ' + name:>28}" for name in SHOWN[:2] for host in HOSTS))
    for number, (first, second) in enumerate(zip(*sides, strict=True), start=1):
        print(f"{number:>7}  " + "  ".join(f"{side[k]:>28.12f}" for k in (0, 1) for side in (first, second)))
    if sides[0] != sides[1]:
        raise RankloopError("The two sides do not have the same losses; report it.")
    print(f"equal losses on both sides, {len(sides[0])} rollouts")


def main() -> None:
    """Play and report."""
    config = tyro.cli(TwoHosts, config=(tyro.conf.FlagCreatePairsOff,))
    result = play(config)
    if config.json:
        config.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    guarded(main)
