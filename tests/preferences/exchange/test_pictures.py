"""Pictures of prompts leave with every export and come back with its import."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image as Pillow
from trl.data_utils import is_conversational, prepare_multimodal_messages

from preferences.errors import BadRecord
from preferences.exchange.columns import ranked_sets
from preferences.exchange.exporting import FORMATS, Kind, export
from preferences.exchange.formats import SETS
from preferences.exchange.importing import import_prompts, import_rankings
from preferences.exchange.pictures import parts
from preferences.exchange.views import Source
from preferences.images import ImageFiles, image_of, reference
from preferences.records import Message, Response, Study
from preferences.store import Store
from tests.preferences.exchange.make import write_lines
from tests.preferences.make import add_annotator, add_policy

ENDINGS: dict[Kind, str] = {"jsonl": "out.jsonl", "parquet": "out.parquet", "dataset": "out"}


def picture(color: str = "red", format: str = "PNG") -> bytes:
    made = io.BytesIO()
    Pillow.new("RGB", (24, 16), color).save(made, format)
    return made.getvalue()


def pixels(data: bytes) -> bytes:
    return Pillow.open(io.BytesIO(data)).convert("RGB").tobytes()


@pytest.fixture
def pictured(store: Store, study: Study, tmp_path: Path) -> Study:
    """Two prompts, one of which shows two pictures, one of them twice; each with two responses, ranked and one rewritten."""
    for name, color in (("cat", "red"), ("dog", "blue")):
        (tmp_path / f"{name}.png").write_bytes(picture(color))
    shown: list[dict[str, Any]] = [
        {
            "role": "user",
            "content": "Which?",
            "images": [{"file": "cat.png", "alt": "A [red] cat"}, {"file": "dog.png"}],
        },
        {"role": "assistant", "content": "This one?"},
        {"role": "user", "content": "No.", "images": [{"file": "cat.png"}]},
    ]
    plain = [{"role": "user", "content": "And without? ![x](image:unknown)"}]
    import_prompts(store, study, write_lines(tmp_path / "in.jsonl", [{"messages": shown}, {"messages": plain}]), 0.0)
    policy, ann = add_policy(store, "sft"), add_annotator(store)
    for prompt in store.prompts.all():
        responses = [Response.make(prompt.id, policy.id, text, 7, i) for i, text in enumerate(("yes", "no"))]
        store.responses.add(responses)
        comparison = store.comparisons.add(study, prompt.id, responses)
        assert comparison is not None
        one, two = comparison.items
        store.rankings.add_imported(
            ann, comparison, [[two], [one]], flags={one: ["harmful"]}, rewrite="No!", rewrite_of=two
        )
    return study


@pytest.fixture
def other(tmp_path: Path) -> Iterator[tuple[Store, Study]]:
    store = Store(tmp_path / "other.db")
    yield store, store.studies.create("copy")
    store.close()


def conversations(store: Store) -> list[list[Message]]:
    return sorted((prompt.messages for prompt in store.prompts.all()), key=len)


def check_pictures(store: Store, copy: Store) -> None:
    """Both have the same pictures, by id and pixel by pixel."""
    ids = {image_of(picture(color)).id for color in ("red", "blue")}
    for ident in ids:
        assert pixels(copy.images.get(ident).data) == pixels(store.images.get(ident).data)
    assert len({pixels(copy.images.get(ident).data) for ident in ids}) == 2


@pytest.mark.parametrize("kind", ENDINGS)
@pytest.mark.parametrize("name", ["rankings", "trl-preference", "prompts"])
def test_what_can_be_imported_brings_its_pictures_along(
    store: Store, pictured: Study, other: tuple[Store, Study], tmp_path: Path, name: str, kind: Kind
) -> None:
    copy, into = other
    out = tmp_path / "away" / ENDINGS[kind]
    out.parent.mkdir()
    done = export(Source.of(store, pictured, None, names=True), name, out, kind=kind)
    assert done["images"] == 2
    for new in (2, 0):
        if name == "prompts":
            assert import_prompts(copy, into, out).new_prompts == new
        else:
            sets = SETS["rankloop" if name == "rankings" else name]
            found = import_rankings(copy, into, out, sets)
            assert (found.new_prompts, found.rankings) == (new, new)
    assert conversations(copy) == conversations(store)
    assert {prompt.id for prompt in copy.prompts.all()} == {prompt.id for prompt in store.prompts.all()}
    check_pictures(store, copy)


@pytest.mark.parametrize("kind", ENDINGS)
@pytest.mark.parametrize("name", FORMATS)
def test_every_export_has_a_column_of_pictures_that_datasets_opens(
    store: Store, pictured: Study, tmp_path: Path, name: str, kind: Kind
) -> None:
    out = tmp_path / ENDINGS[kind]
    export(Source.of(store, pictured, None), name, out, kind=kind)
    if kind == "jsonl":
        records = [json.loads(line) for line in out.read_text().splitlines()]
        opened = [[Pillow.open(tmp_path / path) for path in record["images"]] for record in records]
    elif kind == "parquet":
        loaded = datasets.load_dataset("parquet", data_files=str(out), split="train", cache_dir=str(tmp_path / "cache"))
        assert loaded.features["images"] == datasets.List(datasets.Image())
        records, opened = list(loaded), [row["images"] for row in loaded]
    else:
        loaded = datasets.load_from_disk(str(out))["train"]
        records, opened = list(loaded), [row["images"] for row in loaded]
    colors = {tuple(image.convert("RGB").getpixel((5, 5)) for image in images) for images in opened}
    red, blue = (255, 0, 0), (0, 0, 255)
    assert colors == {(), (red, blue, red)}
    for record, images in zip(records, opened, strict=True):
        if name.startswith(("trl", "sft")):
            prompt = record.get("prompt") or record["messages"]
            filled = prepare_multimodal_messages(prompt, images=images)  # raises unless every picture has its place
            assert sum(part["type"] == "image" for message in filled for part in message["content"]) == len(images)
            assert is_conversational(record)
            if images:
                kinds = [[part["type"] for part in message["content"]] for message in filled[:3]]
                assert kinds == [["text", "image", "text", "image"], ["text"], ["text", "image"]]
                assert filled[0]["content"][1]["text"] == "A red cat"


def test_a_study_without_pictures_has_no_such_column(store: Store, study: Study, tmp_path: Path) -> None:
    import_prompts(store, study, write_lines(tmp_path / "p.jsonl", [{"prompt": "x ![y](image:" + "0" * 40 + ")"}]), 0.0)
    done = export(Source.of(store, study, None), "prompts", tmp_path / "out.jsonl")
    assert "images" not in done and "images_left_out" not in done
    assert "images" not in json.loads((tmp_path / "out.jsonl").read_text())
    assert not list(tmp_path.glob("*images"))


def test_pictures_may_be_left_out_which_is_counted(store: Store, pictured: Study, tmp_path: Path) -> None:
    done = export(Source.of(store, pictured, None, images=False), "trl-preference", tmp_path / "out.jsonl")
    assert done["images_left_out"] == 2 and not (tmp_path / "out-images").exists()
    assert "image:" in json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])["prompt"][0]["content"]


def test_an_export_that_fails_leaves_no_pictures(store: Store, pictured: Study, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no ranking"):
        export(Source.of(store, pictured, "heldout"), "rankings", tmp_path / "out.jsonl")
    assert not list(tmp_path.glob("*out*"))


def test_a_picture_that_did_not_come_along_is_named_by_its_line(
    store: Store, pictured: Study, other: tuple[Store, Study], tmp_path: Path
) -> None:
    copy, into = other
    export(Source.of(store, pictured, None), "rankings", tmp_path / "out.jsonl")
    for path in (tmp_path / "out-images").iterdir():
        path.unlink()
    with pytest.raises(BadRecord, match=r"out\.jsonl, line 1: the image 'out-images/.*cannot be read"):
        import_rankings(copy, into, tmp_path / "out.jsonl")
    assert import_rankings(copy, into, tmp_path / "out.jsonl", skip_bad=True).skipped == 1


def test_others_vision_data_come_in(tmp_path: Path) -> None:
    """TRL's vision preference format, with structured contents, with plain ones, and with no prompt apart."""
    images = [{"bytes": picture(), "path": "cat.png"}]
    place = [{"type": "image", "text": None}, {"type": "text", "text": "What is it?"}]

    def answers(*before: dict[str, Any]) -> dict[str, Any]:
        return {name: [*before, {"role": "assistant", "content": name}] for name in ("chosen", "rejected")}

    records = [
        {"prompt": [{"role": "user", "content": place}], **answers()},
        {"prompt": [{"role": "user", "content": "And what is this?"}], **answers()},
        answers({"role": "user", "content": "Without a prompt apart?"}),
        {"prompt": "A plain text?", "chosen": "yes", "rejected": "no"},
    ]
    files = ImageFiles(tmp_path)
    made = [SETS["trl-preference"](files.place({**record, "images": images}))[0]["prompt"] for record in records]
    named = reference(image_of(picture()).id)
    assert [messages[0]["content"] for messages in made] == [
        f"{named}What is it?", f"And what is this?\n\n{named}", f"Without a prompt apart?\n\n{named}",
        f"A plain text?\n\n{named}",
    ]  # fmt: skip
    assert [image.id for image in files.take()] == [image_of(picture()).id]


def test_a_prompt_of_any_name_may_have_pictures(store: Store, study: Study, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(picture())
    records = [{name: f"Which {name}?", "images": ["cat.png"]} for name in ("prompt", "question", "text")]
    import_prompts(store, study, write_lines(tmp_path / "in.jsonl", records), 0.0)
    named = reference(image_of(picture()).id)
    assert {prompt.messages[0]["content"] for prompt in store.prompts.all()} == {
        f"Which {name}?\n\n{named}" for name in ("prompt", "question", "text")
    }


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ({"prompt": "x", "images": ["../x.png"]}, "outside the folder"),
        ({"prompt": "x", "images": [{"bytes": b"no picture"}]}, "not a whole"),
        ({"prompt": "x", "images": [3]}, "list of names"),
        ({"prompt": "x", "images": "cat.png"}, "must be a list"),
        ({"images": [{"bytes": picture()}]}, "no prompt"),
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "fewer 'images'"),
        ({"prompt": [{"role": "user", "content": [{"type": "audio"}]}]}, "each part"),
    ],
)
def test_what_is_no_picture_or_has_no_place_is_refused(tmp_path: Path, record: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ImageFiles(tmp_path).place(record)


def test_a_known_picture_is_not_overwritten_and_a_lossless_one_stays_so(store: Store) -> None:
    image = image_of(picture())
    files = ImageFiles(Path())
    files.place({"prompt": "x", "images": [{"bytes": picture("blue"), "path": f"{image.id}.webp"}]})
    store.images.add([image])
    store.images.add(files.take())
    assert pixels(store.images.get(image.id).data) == pixels(picture())
    assert image_of(image.data).data == image.data


def test_parts_say_what_the_text_says() -> None:
    known = frozenset(["a" * 40])
    text = f"one ![x](image:{'a' * 40}) two ![y](image:{'b' * 40})"
    assert parts(text, known) == [
        {"type": "text", "text": "one "}, {"type": "image", "text": "x"},
        {"type": "text", "text": f" two ![y](image:{'b' * 40})"},
    ]  # fmt: skip
    assert parts("", known) == [{"type": "text", "text": ""}]


def test_the_order_of_records_is_that_of_an_export_without_pictures(
    store: Store, pictured: Study, tmp_path: Path
) -> None:
    export(Source.of(store, pictured, None), "rankings", tmp_path / "out.parquet")
    prompts = [row["prompt"] for row in ranked_sets(Source.of(store, pictured, None))]
    loaded = datasets.Dataset.from_parquet(str(tmp_path / "out.parquet"), cache_dir=str(tmp_path / "cache"))
    assert loaded.remove_columns("images")["prompt"][:] == prompts
