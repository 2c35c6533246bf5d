"""What a worker publishes: the options of each stage, as a browser draws a form of them."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from labeler.stage_schemas import StageSchema
from trainer.schemas import OFFERED, WITHHELD, about, field_docs


@pytest.fixture
def published() -> dict[str, Any]:
    found = about("tiny", None, "main", Path("runs"))
    assert json.loads(json.dumps(found)) == found
    return found


def test_every_option_has_a_type_a_help_and_a_default(published: dict[str, Any]) -> None:
    for name, kind in OFFERED.items():
        schema = published["stages"][name]
        assert list(schema["properties"]) == [field.name for field in fields(kind) if field.name not in WITHHELD]
        assert schema["description"] and schema["additionalProperties"] is False
        assert schema["makes_run"] == (name in ("sft", "reward", "ppo"))
        for option, property_ in schema["properties"].items():
            assert property_["type"] and property_["description"].endswith("."), (name, option)
            assert ("default" in property_) == (option not in schema["required"]), (name, option)
    needed = {name: schema["required"] for name, schema in published["stages"].items() if schema["required"]}
    assert needed == {"evaluate": ["adapter"], "report": ["run"], "check": ["reward"]}


def test_types_defaults_and_what_there_is_to_choose_from(published: dict[str, Any]) -> None:
    ppo = published["stages"]["ppo"]["properties"]
    assert (ppo["iterations"]["type"], ppo["iterations"]["default"]) == ("integer", 12)
    assert (ppo["kl_target"]["type"], ppo["kl_target"]["default"]) == (["number", "null"], None)
    assert ppo["advantage"] | {"description": ""} == {
        "type": "string", "enum": ["gae", "rloo"], "default": "gae", "description": "", "title": "advantage",
    }  # fmt: skip
    assert ppo["quantize"]["enum"] == ["none", "int8", "nf4", None]
    assert (ppo["reward"]["format"], ppo["start"]["format"], ppo["study"]["format"]) == (
        "reward-model",
        "policy",
        "study",
    )
    sft = published["stages"]["sft"]["properties"]
    assert (sft["demonstrations"]["type"], sft["demonstrations"]["default"]) == ("string", "data/demonstrations.jsonl")
    assert sft["epochs"]["description"] == "Passes over the demonstrations."
    also = published["stages"]["evaluate"]["properties"]["also"]
    assert (also["type"], also["items"], also["default"], also["format"]) == ("array", {"type": "string"}, [], "policy")


def test_what_the_worker_has_and_what_a_browser_must_not_decide(published: dict[str, Any]) -> None:
    for name, schema in published["stages"].items():
        properties = schema["properties"]
        if name != "report":
            assert (properties["model"]["default"], properties["study"]["default"]) == ("tiny", "main")
            assert properties["quantize"]["default"] == published["quantization"]
        assert not {"db", "out", "functions", "resume"} & set(properties)
        if "sample_next" in properties:
            assert properties["sample_next"]["default"] is False, "a policy answers once somebody promotes it"
    assert published["stages"]["evaluate"]["properties"]["queue"]["default"] is True
    assert published["runs"] == str(Path("runs").resolve())


def test_the_help_of_inherited_options_is_found_too() -> None:
    for kind in OFFERED.values():
        assert set(field_docs(kind)) == {field.name for field in fields(kind)}


def test_a_labeler_on_another_host_takes_all_of_it(published: dict[str, Any]) -> None:
    for schema in published["stages"].values():
        assert StageSchema.model_validate_json(json.dumps(schema)).model_dump(exclude_unset=True) == schema
