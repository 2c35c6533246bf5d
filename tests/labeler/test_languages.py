"""The table of strings: every language has every key, every key is used, and the right language is chosen."""

import re

import pytest
from fastapi.testclient import TestClient

from labeler.languages import LANGUAGES, STRINGS, choose, strings

PLACES = re.compile(r"\{\w+\}")
SAME = {"nav.training", "history.seconds", "work.seconds", "work.minutes", "work.hoursMinutes", "login.name"}


def test_there_is_a_table_for_every_language_and_no_other() -> None:
    assert {path.stem for path in STRINGS.glob("*.json")} == set(LANGUAGES)


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "en"])
def test_no_key_is_missing_or_left_over_and_the_places_for_values_are_the_same(language: str) -> None:
    english, other = strings("en"), strings(language)
    assert list(other) == list(english)
    for key, text in english.items():
        assert other[key].strip(), key
        assert sorted(PLACES.findall(other[key])) == sorted(PLACES.findall(text)), key
        assert key in SAME or other[key] != text, f"{key} is not translated"


@pytest.mark.parametrize(
    ("wish", "header", "chosen"),
    [
        (None, "", "en"),
        (None, "de-CH,de;q=0.9,en;q=0.8", "de"),
        (None, "fr,ar;q=0.7,es;q=0.8", "es"),
        (None, "fr-FR, fr", "en"),
        (None, "zh-Hant-TW", "zh"),
        (None, "de;q=0,ar;q=0.1", "ar"),
        (None, "de;q=nonsense,es;q=0.1", "es"),
        ("ar", "de", "ar"),
        ("xx", "de", "de"),
        (None, "a," * 9000 + "de", "en"),
    ],
)
def test_the_wish_comes_first_then_the_browser_then_english(wish: str | None, header: str, chosen: str) -> None:
    assert choose(wish, header) == chosen


def test_the_api_gives_the_table_of_whoever_asks(ann: TestClient) -> None:
    german = ann.get("/api/strings", headers={"accept-language": "de"}).json()
    assert (german["language"], german["direction"]) == ("de", "ltr")
    assert german["strings"] == strings("de")
    ann.post("/api/settings", json={"language": "ar"})
    arabic = ann.get("/api/strings", headers={"accept-language": "de"}).json()
    assert (arabic["language"], arabic["direction"], arabic["strings"]) == ("ar", "rtl", strings("ar"))


def test_the_login_page_speaks_the_browsers_language(client: TestClient) -> None:
    arabic = client.get("/login", headers={"accept-language": "ar"}).text
    assert '<html lang="ar" dir="rtl">' in arabic and strings("ar")["login.password"] in arabic
    wrong = client.post("/login", data={"name": "ann", "password": "wrong"}, headers={"accept-language": "de"})
    assert wrong.status_code == 401 and strings("de")["error.bad_login"] in wrong.text
    plain = client.get("/login", headers={"accept-language": "fr"}).text
    assert '<html lang="en" dir="ltr">' in plain and ">Password</label>" in plain
