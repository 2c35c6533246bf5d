"""PPO's rollouts from a server: the policy as it is now, its own log-probabilities, and weights for the difference."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from preferences.records import Study
from preferences.store import Store
from tests.trainer.fill import add_prompts, metrics, state
from tests.trainer.test_endpoint import Server
from trainer.budget import sampling_budget
from trainer.endpoint import Answer
from trainer.experience import Answers
from trainer.far_rollout import EngineOff, response_ids, weighed
from trainer.models import Base, load_base
from trainer.ppo import Ppo
from trainer.roles import Roles
from trainer.rollout import Sampling, generate
from trainer.stages import run

pytestmark = pytest.mark.usefixtures("own_cache", "as_before")


class Engine:
    """What vLLM's interface does, on a base of its own in this process: adapters come and go, tokens and their
    log-probabilities are said. `heat`: it draws at that many times the temperature that it is asked for, as an engine of
    other numerics might."""

    def __init__(self, model: Path, heat: float = 1.0, speaks: bool = True) -> None:
        self.roles, self.heat, self.speaks = Roles(load_base(str(model), "none")), heat, speaks
        self.loaded: list[str] = []
        self.served: list[str] = []
        self.lock = threading.Lock()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
        with self.lock:
            if path.endswith("/load_lora_adapter"):
                self.roles.load(body["lora_name"], Path(body["lora_path"]))
                self.loaded.append(body["lora_name"])
                self.served.append(body["lora_name"])
                return 200, {}, {}
            if path.endswith("/unload_lora_adapter"):
                self.served.remove(body["lora_name"])
                return 200, {}, {}
            if body["model"] not in self.served:
                return 404, {}, {"error": "no such model"}
            return 200, {}, {"id": "r", "choices": self.choices(body)}

    def choices(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        count = body.get("n", 1)
        sampling = Sampling(body["temperature"] * self.heat, body["top_p"], body["max_tokens"])
        keys = [(body["seed"], i) for i in range(count)]
        drawn = generate(self.roles, body["model"], [body["prompt"]] * count, keys, sampling, sampling_budget(4096))
        found = []
        for sample in drawn:
            said = {"token_ids": sample.ids, "logprobs": {"token_logprobs": sample.logprobs}} if self.speaks else {}
            text = self.roles.base.text(sample.ids)
            found.append({"text": text, "finish_reason": "stop" if sample.finished else "length", **said})
        return found


@pytest.fixture
def serve() -> Iterator[Callable[[Engine], Server]]:
    made: list[Server] = []

    def begin(engine: Engine) -> Server:
        made.append(Server(engine.answer))
        return made[-1]

    yield begin
    for server in made:
        server.close()


def options(store: Store, folder: Path, model: Path, url: str, **more: Any) -> Ppo:
    return Ppo(
        db=store.path, model=str(model), quantize="none", out=folder, endpoint=url, iterations=2, episodes=4, samples=2,
        max_new_tokens=6, temperature=1.0, snapshots=0, functions=(f"{rule(folder)}:short",), **more,
    )  # fmt: skip


def rule(folder: Path) -> Path:
    """A file with a reward in it."""
    path = folder.with_name("rule.py")
    path.write_text("def short(prompts, responses):\n    return [-float(len(text)) for text in responses]\n")
    return path


def test_an_engine_like_the_policy_weighs_nothing(
    store: Store, study: Study, llama_folder: Path, tmp_path: Path, serve: Callable[[Engine], Server]
) -> None:
    """It is asked under another name after each update; answers to one prompt are one request; nothing is left behind."""
    add_prompts(store, study, 4)
    engine = Engine(llama_folder)
    server = serve(engine)
    run(options(store, tmp_path / "p", llama_folder, server.url))
    assert engine.loaded == ["p-0", "p-1"] and engine.served == []
    asked = [body for path, body in server.asked if path.endswith("/completions")]
    assert [(body["model"], body["n"]) for body in asked] == [("p-0", 2)] * 2 + [("p-1", 2)] * 2
    assert all(isinstance(body["prompt"][0], int) for body in asked)
    for line in metrics(tmp_path / "p"):
        assert line["engine/weight"] == pytest.approx(1, abs=1e-4) and line["engine/weight_off"] < 1e-4
    assert state(tmp_path / "p")["state"] == "finished"
    assert not [path for path in (tmp_path / "p" / "served").rglob("*") if path.is_file()]


def test_an_engine_of_other_numerics_is_weighed(
    store: Store, study: Study, llama_folder: Path, tmp_path: Path, serve: Callable[[Engine], Server]
) -> None:
    """The log-probabilities of the run are the policy's own, so that the first ratio is 1 all the same."""
    add_prompts(store, study, 4)
    run(options(store, tmp_path / "p", llama_folder, serve(Engine(llama_folder, heat=1.1)).url, weight_clip=1.2))
    first = metrics(tmp_path / "p")[0]
    assert 1e-3 < first["engine/weight_off"] < 0.5
    assert first["val/ratio_off_first"] < 1e-4


@pytest.mark.distributed
def test_another_distribution_than_the_policys_is_refused(
    store: Store, study: Study, llama_folder: Path, tmp_path: Path, serve: Callable[[Engine], Server]
) -> None:
    add_prompts(store, study, 4)
    with pytest.raises(EngineOff, match="processed_logprobs"):
        run(options(store, tmp_path / "p", llama_folder, serve(Engine(llama_folder, heat=4.0)).url))


@pytest.mark.distributed
def test_a_server_that_says_no_tokens_gives_texts(
    store: Store, study: Study, llama_folder: Path, tmp_path: Path, serve: Callable[[Engine], Server]
) -> None:
    """Their tokens are those that spell them, and nothing is weighed."""
    add_prompts(store, study, 4)
    run(options(store, tmp_path / "p", llama_folder, serve(Engine(llama_folder, speaks=False)).url))
    assert "engine/weight" not in metrics(tmp_path / "p")[0]


def test_weights_are_cut_where_they_are_too_large() -> None:
    mask = torch.tensor([[True, True]])
    old, engine = torch.tensor([[-1.0, -1.0]]), torch.tensor([[-1.2, -1.0]])
    answers = Answers([], [], [], [], mask, old, torch.zeros(1, 2))
    assert weighed(answers, engine, 2.0).weights.tolist() == [pytest.approx([1.2214, 1.0], abs=1e-4)]  # type: ignore[union-attr]
    assert weighed(answers, engine, 1.1).weights.tolist() == [pytest.approx([1.1, 1.0])]  # type: ignore[union-attr]
    assert weighed(answers, None, 2.0) is answers


def test_tokens_that_a_server_does_not_say_spell_the_text(base: Base) -> None:
    assert response_ids(base, Answer("Hello", True, 1, [5, 6])) == [5, 6]
    assert response_ids(base, Answer("Hello", True, 1)) == base.response_ids("Hello", True)
    assert response_ids(base, Answer("", False, 0)) == [base.stop_ids[0]]
