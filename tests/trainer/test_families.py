"""The whole loop, SFT -> sample -> rank -> reward -> PPO -> evaluate -> export, in every family and quantisation.

Each stage loads the base anew from its folder, by the path that full-size weights take.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, dynamic_module_utils

from preferences.errors import RankloopError
from preferences.records import Study
from preferences.store import Store
from tests.families import FAMILIES, save_family
from tests.tiny import DATA
from tests.trainer.fill import add_prompts, annotator, metrics
from tests.trainer.make import EXAMPLES, classified, linears
from trainer.evaluate import EvaluatePolicy, EvaluateReward
from trainer.export import Export, export
from trainer.models import Quantization, load_base
from trainer.ppo import Ppo
from trainer.reward import Reward
from trainer.roles import Roles
from trainer.sample import SampleStage
from trainer.scoring import RewardModel
from trainer.sft import Sft
from trainer.stages import execute

KINDS = {"none": nn.Linear, "int8": bnb.nn.Linear8bitLt, "nf4": bnb.nn.Linear4bit}
CASES = [(family, quantize) for family in FAMILIES for quantize in KINDS]


class Loop:
    """A study on one base, and its stages' folders."""

    def __init__(self, store: Store, study: Study, model: Path, quantize: Quantization, folder: Path) -> None:
        self.store, self.study, self.model, self.quantize, self.folder = store, study, model, quantize, folder

    def run(self, kind: Any, **options: Any) -> dict[str, Any]:
        """A stage on a base of its own."""
        stage = kind(db=self.store.path, model=str(self.model), quantize=self.quantize, **options)
        return execute(stage, self.store, load_base(str(self.model), self.quantize))

    def rank(self) -> None:
        """Every comparison by the length of its answers, longest first."""
        who = annotator(self.store)
        for comparison in self.store.comparisons.all(self.study.id):
            texts = self.store.responses.get_many(comparison.items)
            order = sorted(comparison.items, key=lambda item: -len(texts[item].text))
            self.store.rankings.add_imported(who, comparison, [[item] for item in order])

    def demonstrations(self) -> Path:
        """Four of the project's own."""
        path = self.folder / "demonstrations.jsonl"
        path.write_text("\n".join((DATA / "demonstrations.jsonl").read_text().splitlines()[:4]) + "\n")
        return path


@pytest.fixture
def loop(request: pytest.FixtureRequest, store: Store, study: Study, tmp_path: Path) -> Loop:
    """Of the family and quantisation that the test names."""
    family, quantize = request.param
    add_prompts(store, study, 6)
    add_prompts(store, study, 3, "heldout")
    return Loop(store, study, save_family(family, tmp_path / "model"), quantize, tmp_path)


def whole_loop(loop: Loop) -> None:
    """Every stage once; each leaves what the next one needs."""
    runs = loop.folder
    sft = loop.run(Sft, out=runs / "sft", demonstrations=loop.demonstrations(), batch=2, max_tokens=96, rank=4)
    assert sft["loss"] > 0
    sampled = loop.run(SampleStage, k=4, max_new_tokens=8, temperature=1.0)
    assert sampled["policies"] == ["sft"] and sampled["comparisons"] == 9
    loop.rank()
    reward = loop.run(Reward, out=runs / "reward", rank=4, batch=2)
    assert reward["comparisons"] == 6 and 0 <= reward["train_accuracy"] <= 1
    judged = loop.run(EvaluateReward, adapter=runs / "reward" / "adapter")
    assert judged["accuracy"]["value"] == pytest.approx(reward["heldout_accuracy"]["value"])
    ppo = {"iterations": 2, "episodes": 4, "samples": 2, "max_new_tokens": 8, "lr": 1e-3, "value_lr": 1e-3}
    better = loop.run(Ppo, out=runs / "ppo", reward=runs / "reward" / "adapter", **ppo)
    assert better["iterations"] == 2
    first = metrics(runs / "ppo")[0]
    assert first["skipped_updates"] == 0 and abs(first["objective/kl"]) < 0.1  # the policy starts as the reference
    found = loop.run(EvaluatePolicy, adapter=runs / "ppo" / "adapter", k=2, max_new_tokens=8)
    assert (found["policy"], found["against"], found["prompts"]) == ("ppo", "sft", 3)


def check_linears(loop: Loop) -> None:
    """All linears but the head are quantised; of T5 transformers leaves `wo` as it is."""
    found = linears(load_base(str(loop.model), loop.quantize).model)
    inner = {name: module for name, module in found.items() if not name.endswith(("embed_out", ".wo"))}
    assert len(inner) >= 12 and {type(module) for module in inner.values()} == {KINDS[loop.quantize]}


def check_exports(loop: Loop) -> None:
    """The adapter alone in plain PEFT, and merged, say the same on the unquantised base; only what was trained differs."""
    adapter = loop.folder / "ppo" / "adapter"
    export(Export(adapter=adapter, out=loop.folder / "alone"))
    export(Export(adapter=adapter, out=loop.folder / "merged", merge=True, dtype="float32"))
    seq2seq = json.loads((loop.model / "config.json").read_text())["model_type"] == "t5"
    auto = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    ids = torch.tensor([[20, 21, 22, 40, 41]])
    inputs = {"input_ids": ids, **({"decoder_input_ids": ids} if seq2seq else {})}
    with torch.no_grad():
        plain = auto.from_pretrained(loop.model).eval()(**inputs).logits
        alone = (
            PeftModel.from_pretrained(auto.from_pretrained(loop.model), loop.folder / "alone").eval()(**inputs).logits
        )
        merged = auto.from_pretrained(loop.folder / "merged").eval()(**inputs).logits
    torch.testing.assert_close(alone, merged, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(alone, plain, rtol=1e-3, atol=1e-4)


def check_classifier(loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The merged reward model gives plain transformers the scores that its adapter gives on the unquantised base; an
    encoder-decoder has no such classifier, and says so."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    adapter, out = loop.folder / "reward" / "adapter", loop.folder / "classifier"
    options = Export(adapter=adapter, out=out, merge=True, dtype="float32")
    base = load_base(str(loop.model), "none")
    if base.is_encoder_decoder:
        with pytest.raises(RankloopError, match="is an encoder-decoder"):
            export(options)
        return
    export(options)
    model = RewardModel.load(Roles(replace(base, quantization=loop.quantize)), "reward", adapter)
    expected = torch.tensor(model.score_all(EXAMPLES, 100))
    assert expected.std() > 1e-3
    found = torch.tensor(classified(out, base.pad_id, trust_remote_code=True))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.families
@pytest.mark.parametrize("loop", CASES, indirect=True, ids="-".join)
def test_the_whole_loop(loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_linears(loop)
    whole_loop(loop)
    check_exports(loop)
    check_classifier(loop, tmp_path, monkeypatch)


@pytest.mark.smoke
@pytest.mark.parametrize("loop", [("gpt_neox", "int8")], indirect=True)
def test_the_whole_loop_of_a_quantised_gpt_neox(loop: Loop) -> None:
    check_linears(loop)
    whole_loop(loop)
