"""Model text to HTML: nothing runs, nothing is loaded, nothing is lost, and reading stays pleasant."""

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.markup import ATTRIBUTES, MAX_CHARACTERS, TAGS, render

pytestmark = [pytest.mark.security, pytest.mark.smoke]
ALWAYS = {"class": {"span", "pre"}, "target": {"a"}, "rel": {"a"}}
INJECTIONS = [
    "<script>window.__xss=1</script>",
    "<img src=x onerror=window.__xss=1>",
    "<svg onload=window.__xss=1><a xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
    "<iframe src=https://evil.example></iframe><object data=x></object><embed src=x>",
    "<style>*{background:url(https://evil.example)}</style><link rel=stylesheet href=//evil.example>",
    "<form action=https://evil.example><input name=password></form>",
    "<div style='position:fixed;inset:0' id=app class=rb>cover</div>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<base href=https://evil.example><meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<!--[if gte IE 4]><script>alert(1)</script><![endif]--> <![CDATA[<script>alert(1)</script>]]>",
    "[x](javascript:alert(1)) [x](JaVaScRiPt:alert(1)) [x](&#106;avascript:alert(1)) [x](java\tscript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=) [x](vbscript:x) [x](file:///etc/passwd) [x](/logout) [x](//evil.example)",
    "<javascript:alert(1)> <https://example.org> [x](https://example.org \"a' onmouseover='alert(1)\")",
    '![x](https://evil.example/pixel.png) ![x](javascript:alert(1)) ![](https://evil.example "t")',
    "[x]: javascript:alert(1)\n\n[x] ![x]",
    '```"><script>alert(1)</script>\nx\n```\n```html\n<script>alert(1)</script>\n```',
    "```python onerror=alert(1)\n'</code></pre><script>alert(1)</script>'\n```",
    r"$\href{javascript:alert(1)}{x}$ $\style{position:fixed}{x}$ $\class{rb}{x}$ $\cssId{app}{x}$",
    r"$\text{<img src=x onerror=alert(1)>}$ $$\text{</mtext></math><script>alert(1)</script>}$$",
    r"$\unicode{x3c}script\unicode{x3e}$ \(<script>alert(1)</script>\) \[<img src=x onerror=alert(1)>\]",
    r"$\hspace{99999cm}\rule{99cm}{99cm}\kern99em\raisebox{99cm}{x}$",
    r"$\def\a{\b\b}\def\b{\c\c}\def\c{xxxxxxxxxx}\a$",
    "${window.__xss=1} {{constructor.constructor('alert(1)')()}} `${alert(1)}` <%= x %> #{x}",
    "\x00<scr\x00ipt>alert(1)</script> \ud800 \u202e <ſcript>",
]


class Seen(HTMLParser):
    """Tags, attributes and text of an HTML text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    handle_decl = unknown_decl = handle_pi = handle_comment


def check_safe(html: str) -> Seen:
    seen = Seen(html)
    for tag, attributes in seen.tags:
        assert tag in TAGS, html
        for name, value in attributes.items():
            assert name in ATTRIBUTES.get(tag, set()) or tag in ALWAYS.get(name, set()), html
            if name == "href":
                assert str(value).lower().startswith(("http://", "https://", "mailto:")), html
        if tag == "img":
            assert re.fullmatch(r"/api/images/[0-9a-f]{40}", str(attributes["src"])), html
        if tag == "a":
            assert attributes["target"] == "_blank", html
            assert {"noopener", "nofollow"} <= set(str(attributes["rel"]).split()), html
    return seen


@pytest.mark.parametrize("text", INJECTIONS)
def test_injections_become_text(text: str) -> None:
    check_safe(render(text))


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=400)
    | st.lists(st.sampled_from([*INJECTIONS, *"<>&\"'`$\\[]()!*_~|#\n -=:/a1"]), max_size=12).map("".join)
)
def test_any_text_gives_safe_html(text: str) -> None:
    check_safe(render(text))


def test_html_is_shown_as_the_text_it_is() -> None:
    assert (
        Seen(render("a <b>bold</b> <script>x</script> claim")).text.strip() == "a <b>bold</b> <script>x</script> claim"
    )


def test_links_open_elsewhere_and_others_stay_text() -> None:
    seen = check_safe(render("[good](https://example.org/a?b=1&c=2) [bad](javascript:alert(1))"))
    links = [attributes["href"] for tag, attributes in seen.tags if tag == "a"]
    assert links == ["https://example.org/a?b=1&c=2"]
    assert "[bad](javascript:alert(1))" in seen.text


def test_an_image_becomes_its_description() -> None:
    assert render("![a cat](https://example.org/cat.png)") == "<p>[image: a cat]</p>\n"


def test_markdown() -> None:
    html = render("# T\n\n**b** *i* ~~s~~ `c`\n\n- one\n- two\n\n3. three\n\n> q\n\n|h|\n|-|\n|x|\n\nline\nbreak")
    for part in (
        "<h1>T</h1>", "<strong>b</strong>", "<em>i</em>", "<s>s</s>", "<code>c</code>", "<li>two</li>",
        '<ol start="3">',
        "<blockquote>", "<th>h</th>", "<td>x</td>", "line<br>\nbreak",
    ):  # fmt: skip
        assert part in html


def test_code_is_marked_and_kept() -> None:
    code = "def f(x):\n    return '<b>' + x  # <i>\n"
    html = render(f"```python\n{code}```")
    assert html.startswith('<pre class="highlight"><code><span class="k">def</span>')
    assert Seen(html).text.strip("\n") == code.strip("\n")
    assert Seen(render(f"```nosuchlanguage\n{code}```")).text.strip("\n") == code.strip("\n")
    assert "span" not in render("```\nplain\n```")


@pytest.mark.parametrize(
    ("text", "display"),
    [
        ("$x^2$", "inline"),
        (r"\(x^2\)", "inline"),
        ("$$x^2$$", "block"),
        ("$$\nx^2\n$$", "block"),
        (r"\[x^2\]", "block"),
    ],
)
def test_formulas(text: str, display: str) -> None:
    html = render(f"before {text} after" if "\n" not in text else text)
    assert f'<math display="{display}">' in html
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in html


def test_a_formula_of_many_lines_is_not_taken_for_a_list() -> None:
    html = render("\\[\na\n+ b\n- c\n\\]\n\nafter")
    assert "<math" in html
    assert "<li>" not in html
    assert "<p>after</p>" in html


@pytest.mark.parametrize(
    "text",
    ["It costs $5 and then $10.", "US$5-US$6", "a $ b $ c", r"$\frac$", r"\(\undefined{\)", "$" + "{" * 900 + "$"],
)
def test_what_is_no_formula_stays_literal(text: str) -> None:
    html = render(text)
    assert "<math" not in html
    assert Seen(html).text.strip().replace("$", "") == text.replace("$", "").replace(r"\(", "").replace(r"\)", "")


def test_text_inside_a_formula_is_not_lost() -> None:
    assert "if a<b and c>d".replace(" ", "") in "".join(Seen(render(r"$\text{if a<b and c>d}$")).text.split())


def test_a_wide_space_cannot_push_the_card_apart() -> None:
    assert "width" not in render(r"$\hspace{9999cm}x$")
    assert 'width="1em"' in render(r"$a \quad b$")


@pytest.mark.parametrize(
    "part", ["[", "![", "**a", "`", "$a", "\\(", "\\[\n", "> ", "- ", "|a", "<a", "[a](", "{", "$${", "a_b_"]
)
def test_no_text_takes_long(part: str) -> None:
    start = time.perf_counter()
    check_safe(render((part * MAX_CHARACTERS)[:MAX_CHARACTERS]))
    assert time.perf_counter() - start < 3


def test_a_very_long_text_is_shown_as_it_is() -> None:
    text = "**a** <b>\n" * MAX_CHARACTERS
    assert Seen(render(text)).text == text


PICTURE = "0123456789abcdef0123456789abcdef01234567"


def test_a_picture_of_ours_is_shown_from_our_own_address() -> None:
    shown = {"src": f"/api/images/{PICTURE}", "loading": "lazy", "alt": 'a "cat"'}
    assert check_safe(render(f'![a "cat"](image:{PICTURE})')).tags == [("p", {}), ("img", shown)]


@pytest.mark.parametrize(
    "text",
    [
        f"[x](image:{PICTURE})",
        f"![x](image:{PICTURE}0)",
        f"![x](image:{PICTURE}/../../logout)",
        f"![x](/api/images/{PICTURE})",
        "![x](image:../../logout)",
        f"<img src=/api/images/{PICTURE}>",
    ],
)
def test_no_other_address_becomes_a_picture_or_a_link(text: str) -> None:
    seen = check_safe(render(text))
    assert not [tag for tag, _ in seen.tags if tag == "img"]
    assert not [attributes for _, attributes in seen.tags if "href" in attributes]


@pytest.mark.parametrize("text", [">" * 10_000 + " deep", "> " * 9_990 + "deep", "- " * 9_000 + "deep"])
def test_quotes_in_quotes_ten_thousand_deep_are_quick_and_lose_nothing(text: str) -> None:
    start = time.perf_counter()
    assert Seen(render(text)).text == text
    assert time.perf_counter() - start < 3
    assert render(">" * 5 + " deep").count("<blockquote>") == 5


def test_what_acts_unseen_is_seen() -> None:
    text = Seen(render("user\u202etxt.exe \x1b[31mred\x07 \x9bnext \x7f `\x00`")).text
    assert text.strip() == "user[U+202E]txt.exe ␛[31mred␇ [U+009B]next ␡ ␀"
    assert Seen(render("long \u202e " * MAX_CHARACTERS)).text.startswith("long [U+202E] ")
    assert Seen(render("مرحبا \u2067abc\u2069 \u200f!")).text.strip() == "مرحبا \u2067abc\u2069 \u200f!"
