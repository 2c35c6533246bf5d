"""Answers from an OpenAI-compatible server: `transformers serve` on a tiny model, and servers that are busy or refuse."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from preferences.errors import RankloopError
from preferences.records import Policy, Study
from preferences.store import Store
from tests.trainer.fill import add_prompts
from trainer.endpoint import Endpoint, EndpointRefuses, Pressure
from trainer.patience import Patience, Unreachable
from trainer.rollout import Sampling
from trainer.sample import SampleStage
from trainer.sampler import request_seed
from trainer.selecting import Select
from trainer.stages import run
from trainer.worker import Worker, work

pytestmark = pytest.mark.usefixtures("own_cache", "as_before")
QUICK = Patience(5.0, first=0.01, longest=0.05)
SAMPLING = Sampling(1.0, 1.0, 6)
HELLO = [{"role": "user", "content": "Hello?"}]


class Server:
    """A real HTTP server that answers as it is told: (status, headers, document) of each request, by path and body."""

    def __init__(self, answer: Callable[[str, dict[str, Any]], tuple[int, dict[str, str], dict[str, Any]]]) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.under_way = self.most = 0
        lock, owner = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    owner.asked.append((self.path, body))
                    owner.under_way += 1
                    owner.most = max(owner.most, owner.under_way)
                time.sleep(0.01)
                with lock:
                    owner.under_way -= 1
                self.reply(*answer(self.path, body))

            def do_GET(self) -> None:
                self.reply(*answer(self.path, {}))

            def reply(self, status: int, headers: dict[str, str], document: dict[str, Any]) -> None:
                data = json.dumps(document).encode()
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def begin(answer: Any) -> Server:
        made.append(Server(answer))
        return made[-1]

    yield begin
    for server in made:
        server.close()


def choices(count: int, **more: Any) -> dict[str, Any]:
    """An answer with so many choices."""
    found = [
        {
            "index": i,
            "message": {"content": f"Answer {i}."},
            "finish_reason": "stop" if i % 2 == 0 else "length",
            **more,
        }
        for i in range(count)
    ]
    return {
        "id": "r-1",
        "model": "served",
        "choices": found,
        "usage": {"completion_tokens": 3},
        "system_fingerprint": "f",
    }


def test_several_answers_are_one_request_with_its_provenance(serve: Callable[..., Server]) -> None:
    logprobs = {"logprobs": {"content": [{"logprob": -1.0}, {"logprob": -0.5}]}}
    server = serve(lambda _, body: (200, {}, choices(body.get("n", 1), **logprobs)))
    answers = Endpoint(server.url, patience=QUICK, environment={}).chat("m", HELLO, [5, 6, 7], SAMPLING)
    assert [(one.text, one.finished, one.tokens) for one in answers] == [
        ("Answer 0.", True, 2), ("Answer 1.", False, 2), ("Answer 2.", True, 2),
    ]  # fmt: skip
    assert answers[1].logprobs == [-1.0, -0.5]
    assert answers[1].provenance == {
        "endpoint": server.url, "model": "served", "asked": "m", "request": "r-1", "fingerprint": "f", "seed": 5,
        "choice": 1, "logprob": -1.5,
    }  # fmt: skip
    ((_, body),) = server.asked
    assert body == {
        "model": "m", "messages": HELLO, "temperature": 1.0, "top_p": 1.0, "max_tokens": 6, "logprobs": True, "seed": 5,
        "n": 3, "chat_template_kwargs": {"enable_thinking": False, "date_string": "26 Jul 2024"},
    }  # fmt: skip


def test_a_server_that_gives_one_at_a_time_is_asked_again(serve: Callable[..., Server]) -> None:
    server = serve(lambda *_: (200, {}, choices(1)))
    answers = Endpoint(server.url, patience=QUICK, environment={}).chat("m", HELLO, [5, 6, 7], SAMPLING)
    assert [one.provenance["seed"] for one in answers] == [5, 6, 7] and [one.tokens for one in answers] == [3, 3, 3]


def test_what_a_server_does_not_take_is_left_out_from_then_on(serve: Callable[..., Server]) -> None:
    def picky(_: str, body: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
        return (422, {}, {"error": "logprobs?"}) if "logprobs" in body else (200, {}, choices(1))

    server = serve(picky)
    endpoint = Endpoint(server.url, patience=QUICK, environment={})
    endpoint.chat("m", HELLO, [1], SAMPLING)
    endpoint.chat("m", HELLO, [2], SAMPLING)
    assert ["logprobs" in body for _, body in server.asked] == [True, False, False]


def test_what_a_server_names_is_left_out_alone(serve: Callable[..., Server]) -> None:
    """An OpenAI-compatible server need not know of templates."""
    unknown = {"error": {"message": "Unrecognized request argument supplied: chat_template_kwargs"}}
    server = serve(lambda _, body: (400, {}, unknown) if "chat_template_kwargs" in body else (200, {}, choices(2)))
    Endpoint(server.url, patience=QUICK, environment={}).chat("m", HELLO, [1, 2], SAMPLING)
    assert [set(body) & {"logprobs", "n", "chat_template_kwargs"} for _, body in server.asked] == [
        {"logprobs", "n", "chat_template_kwargs"}, {"logprobs", "n"},
    ]  # fmt: skip


def test_a_busy_server_is_asked_again_and_by_fewer_at_once(serve: Callable[..., Server]) -> None:
    failures = iter([True] * 12)

    def busy(*_: Any) -> tuple[int, dict[str, str], dict[str, Any]]:
        return (429, {"retry-after": "0"}, {}) if next(failures, False) else (200, {}, choices(1))

    server = serve(busy)
    endpoint = Endpoint(server.url, 8, QUICK, environment={})
    seeds = list(range(20))
    found = endpoint.each(lambda seed: endpoint.chat("m", HELLO, [seed], SAMPLING)[0], seeds)
    assert [one.provenance["seed"] for one in found] == seeds
    assert len(server.asked) == 32 and server.most <= 8 and endpoint.pressure.limit < 8


def test_the_pressure_falls_by_half_and_grows_by_one_a_round() -> None:
    pressure = Pressure(8)
    for _ in range(5):
        pressure.note(busy=True)
    assert pressure.limit == 1.0
    pressure.note(busy=False)
    assert pressure.limit == 2.0
    for _ in range(100):
        pressure.note(busy=False)
    assert pressure.limit == 8


def test_waits_double_are_drawn_at_random_and_obey_the_server() -> None:
    waited: list[float] = []
    answers = [httpx.Response(503)] * 5 + [
        httpx.Response(507),
        httpx.Response(429, headers={"retry-after": "7"}),
        httpx.Response(200),
    ]
    stream = iter(answers)
    patience = Patience(100.0, first=1.0, longest=4.0, sleep=waited.append, clock=lambda: sum(waited))
    assert patience.ask(lambda: next(stream)).status_code == 200
    assert waited[-1] == 7.0
    assert all(0 <= wait <= most for wait, most in zip(waited, [1, 2, 4, 4, 4, 4], strict=False))
    assert len({*waited}) == 7, "Without jitter all would come back at once."


def test_patience_ends_with_a_sentence() -> None:
    def broken() -> httpx.Response:
        raise httpx.ConnectError("refused")

    waited: list[float] = []
    with pytest.raises(Unreachable, match=r"refused.*is it running"):
        Patience(3.0, sleep=waited.append, clock=lambda: sum(waited)).ask(broken)
    assert sum(waited) <= 3.0


@pytest.mark.parametrize(
    "status, document, words",
    [(401, {"error": "no key"}, "RANKLOOP_ENDPOINT_KEY"), (404, {"error": "no model"}, "no model")],
)
def test_a_refusal_is_a_sentence(
    serve: Callable[..., Server], status: int, document: dict[str, Any], words: str
) -> None:
    server = serve(lambda *_: (status, {}, document))
    with pytest.raises(EndpointRefuses, match=words):
        Endpoint(server.url, patience=QUICK, environment={}).chat("m", HELLO, [1], SAMPLING)


def test_the_key_comes_from_the_environment_and_an_address_is_checked() -> None:
    made = Endpoint("http://localhost:1/v1", environment={"RANKLOOP_ENDPOINT_KEY": "k", "OPENAI_API_KEY": "o"})
    assert made.client.headers["authorization"] == "Bearer k"
    assert (
        Endpoint("http://localhost:1/v1", environment={"OPENAI_API_KEY": "o"}).client.headers["authorization"]
        == "Bearer o"
    )
    assert "authorization" not in Endpoint("http://localhost:1/v1", environment={}).client.headers
    for wrong in ("localhost:8000", "ftp://x/v1", ""):
        with pytest.raises(RankloopError, match="address"):
            Endpoint(wrong, environment={})


def test_an_adapter_is_asked_for_by_its_policys_name_and_loaded_if_it_is_not_served(
    serve: Callable[..., Server],
) -> None:
    """As vLLM has it: `v1/models` lists adapters, `v1/load_lora_adapter` loads one."""
    served = ["base-model"]

    def vllm(path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
        if path == "/v1/load_lora_adapter":
            served.append(body["lora_name"])
            return 200, {}, {}
        return 200, {}, {"data": [{"id": name} for name in served]}

    endpoint = Endpoint(serve(vllm).url, patience=QUICK, environment={})
    assert endpoint.name_of(Policy("p", "my-ppo", "ppo", "base-model", "none", "/runs/my-ppo/adapter")) == "my-ppo"
    assert served == ["base-model", "my-ppo"]
    assert endpoint.name_of(Policy("b", "whatever", "base", "base-model")) == "base-model"
    with pytest.raises(EndpointRefuses, match="--endpoint-model"):
        endpoint.name_of(Policy("c", "other", "base", "another-model"))


# -- transformers serve ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transformers_serve(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. It draws answers only if the model's own generation config says so."""
    pytest.importorskip(
        "openai", reason="transformers serve needs the package openai; pip install transformers[serving]"
    )
    folder = tmp_path_factory.mktemp("served") / "llama"
    folder.mkdir()
    for path in llama_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    generation = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**generation, "do_sample": True}))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), "--host", "127.0.0.1",
        "--port", str(port), "--device", "cpu",
    ]  # fmt: skip
    log = folder.parent / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        end = time.monotonic() + 120
        while True:
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1 {folder}"
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.distributed
def test_answers_come_from_transformers_serve(
    store: Store, study: Study, transformers_serve: str, worker_options: dict[str, Any]
) -> None:
    """`trainer sample --endpoint` and `trainer worker --endpoint`, neither of which loads a model."""
    url, model = transformers_serve.split()
    prompts = add_prompts(store, study, 4)
    options = {"db": store.path, "endpoint": url, "endpoint_model": model, "max_new_tokens": 6, "temperature": 1.0}
    made = run(Select(**options, prompts=2, model="there is no such model"))
    assert (made["prompts"], made["comparisons"]) == (2, 2)
    policy = store.studies.sampling_policies(study)[0]
    assert (policy.name, policy.kind, policy.base) == (model, "base", model)
    found = store.responses.of_prompt(prompts[0].id)
    assert len(found) == 4 and all(0 < one.tokens <= 6 for one in found)
    known = store.responses.provenance([one.id for one in found])
    assert {document["endpoint"] for document in known.values()} == {url}
    assert {document["seed"] for document in known.values()} >= {
        request_seed(0, prompts[0].id, one.sample_index) for one in found[:1]
    }
    assert len({document["request"] for document in known.values()}) == 4
    worker = {**worker_options, "model": "there is no such model", "waiting": 3}
    work(Worker(**{**worker, "endpoint": url, "endpoint_model": model}))
    assert store.queue.waiting(study) >= 3


@pytest.mark.distributed
def test_a_seed_gives_the_same_answer_of_transformers_serve(transformers_serve: str) -> None:
    url, model = transformers_serve.split()
    endpoint = Endpoint(url, 1)
    first, other, again = (endpoint.chat(model, HELLO, [seed], Sampling(1.0, 1.0, 12))[0].text for seed in (1, 2, 1))
    assert first == again != other


def test_an_unused_option_is_not_silently_wrong() -> None:
    with pytest.raises(RankloopError, match="concurrency"):
        SampleStage(concurrency=0)
