"""Pictures: what comes in is checked and made anew."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from preferences.errors import BadRecord, UnknownName
from preferences.exchange.importing import import_prompts
from preferences.images import MAX_BYTES, MAX_SIDE, ImageFiles, image_of
from preferences.records import Study
from preferences.store import Store


def file_of(size: tuple[int, int] = (40, 20), format: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    made = io.BytesIO()
    Pillow.new(mode, size, "red" if mode != "P" else 1).save(made, format, **options)
    return made.getvalue()


def opened(data: bytes) -> Pillow.Image:
    picture = Pillow.open(io.BytesIO(data))
    picture.load()
    return picture


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_png_jpeg_and_webp_become_webp(format: str, mode: str) -> None:
    image = image_of(file_of(format=format, mode=mode) if mode == "RGB" else file_of(format=format))
    picture = opened(image.data)
    assert (picture.format, picture.size, (image.width, image.height)) == ("WEBP", (40, 20), (40, 20))
    red, green, blue = picture.convert("RGB").getpixel((20, 10))  # type: ignore[misc]
    assert red > 240 and green < 15 and blue < 15


def test_the_same_file_has_the_same_id_and_is_stored_once(store: Store) -> None:
    image = image_of(file_of())
    assert image_of(file_of()).id == image.id != image_of(file_of((41, 20))).id
    assert (store.images.add([image]), store.images.add([image])) == (1, 0)
    found = store.images.get(image.id)
    assert (found.data, found.width, found.height) == (image.data, 40, 20)
    with pytest.raises(UnknownName):
        store.images.get("0" * 40)


def test_a_large_one_is_shrunk_a_transparent_one_stays_so() -> None:
    assert image_of(file_of((2 * MAX_SIDE, 100))).width == MAX_SIDE
    clear = io.BytesIO()
    Pillow.new("RGBA", (8, 8), (0, 0, 0, 0)).save(clear, "PNG")
    assert opened(image_of(clear.getvalue()).data).convert("RGBA").getpixel((4, 4))[3] == 0  # type: ignore[index]


def test_it_is_turned_upright_and_says_nothing_of_where_it_was_taken() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # lies on its side
    exif[0x010E] = "SECRET PLACE"
    image = image_of(file_of(format="JPEG", exif=exif, comment=b"SECRET PLACE"))
    assert (image.width, image.height) == (20, 40)
    assert b"SECRET" not in image.data and not opened(image.data).getexif()


def bomb() -> bytes:
    """A file of 300 bytes that says it has a billion pixels."""
    source = bytearray(file_of())
    source[16:24] = (32_000).to_bytes(4, "big") * 2
    return bytes(source)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (b"", "not a whole"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "not a whole"),
        (file_of()[:-30], "not a whole"),
        (file_of(format="GIF", mode="P"), "not a whole"),
        (file_of(format="BMP"), "not a whole"),
        (b"\x89PNG" + b"x" * MAX_BYTES, "larger than 10 MB"),
        (bomb(), "not a whole|million pixels"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(source: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        image_of(source)


def record(*images: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "What is this?", "images": list(images)}]}


def test_a_prompt_names_its_pictures(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cat.png").write_bytes(file_of())
    files, prompt = ImageFiles(tmp_path), record({"file": "pictures/cat.png", "alt": "a [red]\ncat"})
    placed = files.place(prompt)
    (ident,) = files.found
    assert placed == {
        "messages": [{"role": "user", "content": f"What is this?\n\n![a red cat](image:{ident})"}],
    }


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ([{"file": "none.png"}], "cannot be read"),
        ([{"file": "../outside.png"}], "outside the folder"),
        ([{"file": "/etc/hostname"}], "outside the folder"),
        ([{"file": "link.png"}], "outside the folder"),
        ([{"file": "text.png"}], "not a whole"),
        ([{"alt": "x"}], "needs a 'file'"),
        ([{"file": "cat.png", "url": "https://example.org"}], "needs a 'file'"),
        (["cat.png"], "needs a 'file'"),
    ],
)
def test_a_prompt_whose_picture_cannot_be_taken_is_refused(tmp_path: Path, images: list[Any], sentence: str) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    (tmp_path / "outside.png").write_bytes(file_of())
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=sentence):
        ImageFiles(folder).place(record(*images))


def test_prompts_are_imported_with_their_pictures_and_again_changes_nothing(
    store: Store, study: Study, tmp_path: Path
) -> None:
    (tmp_path / "cat.png").write_bytes(file_of())
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps(record({"file": "cat.png", "alt": "a cat"})) + "\n")
    assert [import_prompts(store, study, path).new_prompts for _ in range(2)] == [1, 0]
    (prompt,) = store.prompts.all()
    reference = f"image:{image_of(file_of()).id}"
    assert prompt.messages[0]["content"].endswith(f"![a cat]({reference})")
    assert store.images.get(reference.removeprefix("image:")).width == 40


def test_a_missing_picture_stops_the_import_with_its_line(store: Store, study: Study, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(file_of())
    path = tmp_path / "prompts.jsonl"
    lines = [record({"file": "cat.png"}), record({"file": "dog.png"})]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(BadRecord, match=r"line 2: the image 'dog.png' cannot be read"):
        import_prompts(store, study, path)
    assert store.prompts.all() == []
    with pytest.raises(UnknownName):
        store.images.get(image_of(file_of()).id)
