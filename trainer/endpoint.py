"""An OpenAI-compatible server: several requests at once, fewer while it is busy, again after breaks.

Plain HTTP: of the `openai` package two calls would be used, and what a server does not take could not be left out.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Condition
from typing import Any, Self, TypeVar

import httpx

from preferences.errors import RankloopError
from preferences.records import Message, Policy
from trainer.patience import BUSY, Patience
from trainer.rollout import Sampling
from trainer.templates import ASKED_OF_SERVERS

KEYS = ("RANKLOOP_ENDPOINT_KEY", "OPENAI_API_KEY")  # of the environment; the first that is set
SECONDS = 600.0  # an answer may wait behind many others
OPTIONAL = (
    "return_token_ids",
    "logprobs",
    "n",
    "chat_template_kwargs",
)  # a server may refuse them: it is then asked without
REFUSED = (400, 404, 422)
T = TypeVar("T")
A = TypeVar("A")


class EndpointRefuses(RankloopError):
    """The server does not do what it is asked."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`ids`, `logprobs`: of its tokens, if the server says them. `provenance`: which request of which server gave it."""

    text: str
    finished: bool
    tokens: int
    ids: list[int] | None = None
    logprobs: list[float] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


class Pressure:
    """How many requests are under way at once: half as many when the server is busy, slowly more when it is not (AIMD)."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self.under_way = 0
        self._free = Condition()

    def __enter__(self) -> Self:
        with self._free:
            self._free.wait_for(lambda: self.under_way < int(self.limit))
            self.under_way += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._free:
            self.under_way -= 1
            self._free.notify_all()

    def note(self, busy: bool) -> None:
        """What the server has just shown."""
        with self._free:
            self.limit = max(1.0, self.limit / 2) if busy else min(self.most, self.limit + 1 / self.limit)
            self._free.notify_all()


class Endpoint:
    """`url`: with the version, as http://localhost:8000/v1. Raises RankloopError if it is none."""

    def __init__(
        self,
        url: str,
        concurrency: int = 8,
        patience: Patience | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        key = next((environment[name] for name in KEYS if environment.get(name)), None)
        try:
            self.client = httpx.Client(
                base_url=url.rstrip("/") + "/", timeout=httpx.Timeout(SECONDS, connect=5.0),
                headers={"Authorization": f"Bearer {key}"} if key else {},
            )  # fmt: skip
        except (httpx.InvalidURL, ValueError) as error:
            raise RankloopError(f"{url!r} is no address ({error}); give one like http://localhost:8000/v1.") from error
        if self.client.base_url.scheme not in ("http", "https"):
            raise RankloopError(f"{url!r} is no address; give one like http://localhost:8000/v1.")
        self.url = url.rstrip("/")
        self.concurrency = concurrency
        self.pressure = Pressure(concurrency)
        self.patience = patience or Patience(300.0)
        self.left_out: set[str] = set()  # of OPTIONAL: what this server has refused
        self._names: dict[str, str] = {}

    # -- models ------------------------------------------------------------------------------------------------------

    def models(self) -> list[str]:
        """What the server says that it serves."""
        found = self._checked(self._send("GET", "models")).json()
        return [str(model["id"]) for model in found.get("data", [])]

    def first_model(self) -> str:
        """The model that it was started with."""
        found = self.models()
        if not found:
            raise EndpointRefuses(f"{self.url} names no model; give --endpoint-model.")
        return found[0]

    def name_of(self, policy: Policy) -> str:
        """What the server calls the policy: an adapter by the policy's name, and it is loaded if that is not served yet.

        Raises EndpointRefuses if the server neither has nor takes it.
        """
        if policy.id not in self._names:
            served = self.models()
            name = policy.base if policy.adapter is None else policy.name
            if name not in served and policy.adapter:
                self.load(name, policy.adapter)
            elif name not in served:
                raise EndpointRefuses(
                    f"{self.url} does not serve {name!r} (it serves {', '.join(served[:5]) or 'nothing'}); give "
                    "--endpoint-model, what it calls the policy."
                )
            self._names[policy.id] = name
        return self._names[policy.id]

    def load(self, name: str, adapter: str) -> None:
        """Let the server load an adapter, or load it anew, from a folder that it can read (vLLM). Raises EndpointRefuses."""
        body = {"lora_name": name, "lora_path": adapter, "load_inplace": True}
        answer = self._send("POST", "load_lora_adapter", body)
        if not answer.is_success:
            raise EndpointRefuses(
                f"{self.url} does not serve the adapter {name!r} and does not load it ({said(answer)}); start it with the "
                "adapter, as docs/scale.md says, or give --endpoint-model."
            )

    def unload(self, name: str) -> None:
        """The server may forget the adapter; said once, since it is no matter if it does not."""
        with suppress(httpx.TransportError):
            self.client.post("unload_lora_adapter", json={"lora_name": name})

    # -- answers -----------------------------------------------------------------------------------------------------

    def chat(self, model: str, messages: Sequence[Message], seeds: Sequence[int], sampling: Sampling) -> list[Answer]:
        """An answer a seed: by one request with the first seed if the server gives several to one, else by one each."""
        body = {
            "model": model,
            "messages": list(messages),
            **options(sampling),
            "chat_template_kwargs": ASKED_OF_SERVERS,
        }
        return self._several("chat/completions", {**body, "logprobs": True}, seeds)

    def complete(self, model: str, prompt: str | list[int], seeds: Sequence[int], sampling: Sampling) -> list[Answer]:
        """The same of a text or token ids as they stand, without the server's template."""
        body = {"model": model, "prompt": prompt, **options(sampling)}
        return self._several("completions", {**body, "logprobs": 1, "return_token_ids": True}, seeds)

    def each(self, ask: Callable[[A], T], items: Sequence[A], done: Callable[[T], object] = bool) -> list[T]:
        """`ask` of each item, in order, several at once; `done` hears of each result, in this thread.

        The first failure ends all that has not begun.
        """
        found = []
        with ThreadPoolExecutor(self.concurrency, "endpoint") as pool:
            asked = [pool.submit(ask, item) for item in items]
            try:
                for one in asked:
                    found.append(one.result())
                    done(found[-1])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return found

    def _several(self, address: str, body: dict[str, Any], seeds: Sequence[int]) -> list[Answer]:
        found: list[Answer] = []
        while len(found) < len(seeds):
            left = len(seeds) - len(found)
            asked = {**body, "seed": seeds[len(found)], **({"n": left} if left > 1 else {})}
            made = self._answers(self._post(address, asked), asked)
            found += made[:left]
        return found

    def _answers(self, document: dict[str, Any], asked: dict[str, Any]) -> list[Answer]:
        """Each of an answer's choices. Raises EndpointRefuses if there is none."""
        choices = document.get("choices") or []
        if not choices:
            raise EndpointRefuses(f"{self.url} gave no answer.")
        common = {
            "endpoint": self.url, "model": document.get("model", asked["model"]), "asked": asked["model"],
            "request": document.get("id"), "fingerprint": document.get("system_fingerprint"), "seed": asked["seed"],
        }  # fmt: skip
        usage = (document.get("usage") or {}).get("completion_tokens") or 0
        return [
            self._answer(choice, {**common, "choice": number}, usage if len(choices) == 1 else 0)
            for number, choice in enumerate(choices)
        ]

    @staticmethod
    def _answer(choice: dict[str, Any], provenance: dict[str, Any], tokens: int) -> Answer:
        text = choice["message"].get("content") if "message" in choice else choice.get("text")
        logprobs, ids = logprobs_of(choice), choice.get("token_ids")
        if logprobs is not None:
            provenance = {**provenance, "logprob": sum(logprobs)}
        count = len(ids) if ids else len(logprobs) if logprobs else tokens
        return Answer(text or "", choice.get("finish_reason") == "stop", count, ids, logprobs, provenance)

    def _post(self, address: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to the request, without those of its options that the server refuses: first those that it names."""
        asked = {name: value for name, value in body.items() if name not in self.left_out}
        answer, dropped = self._send("POST", address, asked), set()
        refusal = set(re.findall(r"\w+", answer.text)) if answer.status_code in REFUSED else set()
        for name in sorted(OPTIONAL, key=lambda name: name not in refusal):
            if answer.status_code in REFUSED and name in asked:
                dropped.add(name)
                del asked[name]
                answer = self._send("POST", address, asked)
        if answer.is_success:
            self.left_out |= dropped
        return dict(self._checked(answer).json())

    def _send(self, method: str, address: str, body: dict[str, Any] | None = None) -> httpx.Response:
        def once() -> httpx.Response:
            with self.pressure:
                answer = self.client.request(method, address, json=body)
            self.pressure.note(answer.status_code in BUSY)
            return answer

        return self.patience.ask(once)

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if not answer.is_success:
            hint = f" ({' or '.join(KEYS)} has its key)" if answer.status_code in (401, 403) else ""
            raise EndpointRefuses(f"{self.url} refuses: {said(answer)}{hint}.")
        return answer


def options(sampling: Sampling) -> dict[str, Any]:
    """How answers are drawn, in the words of the interface."""
    return {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_new_tokens}


def logprobs_of(choice: dict[str, Any]) -> list[float] | None:
    """Log-probabilities of the tokens, of a chat or of a completion."""
    said_ = choice.get("logprobs") or {}
    if said_.get("content"):
        return [float(token["logprob"]) for token in said_["content"]]
    return [float(value) for value in said_["token_logprobs"]] if said_.get("token_logprobs") else None


def said(answer: httpx.Response) -> str:
    """The status and the beginning of what a server says of its refusal, on one line."""
    return f"{answer.status_code} {' '.join(answer.text.split())[:200]}".rstrip(". ")
