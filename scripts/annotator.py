"""The simulated annotator of an unattended round: it ranks through the labeler's HTTP API, like anybody."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np

from preferences.rankings import pairs
from preferences.records import random_id
from preferences.simulated import rank, rule
from preferences.store import Store

NAME = "simulated"
LABELER = [sys.executable, "-m", "labeler"]


class Annotator:
    """An account that is marked as simulated, and the noise of its rankings."""

    def __init__(self, db: Path, seed: int) -> None:
        self.db, self.rng, self.password = db, np.random.default_rng(seed), random_id()
        add = ["people", "add", NAME, "--role", "annotator", "--simulated", "--password-stdin", "--db", str(db)]
        subprocess.run([*LABELER, *add], input=self.password, text=True, check=True, stdout=subprocess.DEVNULL)

    def rank_all(self) -> int:
        """Rank everything that waits; how many rankings."""
        serve = [*LABELER, "serve", "--db", str(self.db), "--port", "0"]
        with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True, env=os.environ) as server:
            assert server.stdout is not None
            try:
                url = server.stdout.readline().split()[-1]
                with httpx.Client(base_url=url, timeout=60) as client:
                    client.post("/login", json={"name": NAME, "password": self.password}).raise_for_status()
                    return self.rank_queue(client)
            finally:
                server.terminate()

    def rank_queue(self, client: httpx.Client) -> int:
        """Take tasks and submit rankings until nothing waits; how many."""
        count, answer = 0, client.get("/api/next").raise_for_status().json()
        while task := answer["task"]:
            responses = task["responses"]
            order = rank([response["text"] for response in responses], self.rng)
            body = {
                "comparison": task["comparison"], "lease": task["lease"], "nonce": random_id(),
                "tiers": [[responses[i]["id"] for i in tier] for tier in order], "active_ms": 0,
            }  # fmt: skip
            answer = client.post("/api/submit", json=body).raise_for_status().json()["next"]
            count += 1
        return count


def ceiling(store: Store) -> float:
    """Share of the pairs that the noisy rankings put apart which the noiseless rule puts in the same order."""
    agree, total = 0.0, 0
    for ranking in store.rankings.current(simulated=True):
        responses = store.responses.get_many(ranking.order)
        for better, worse in pairs(ranking.tiers):
            gap = rule(responses[better].text) - rule(responses[worse].text)
            agree += 1.0 if gap > 0 else 0.5 if gap == 0 else 0.0
            total += 1
    return agree / total
