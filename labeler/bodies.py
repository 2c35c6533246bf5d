"""What the API reads, checked before anything else happens."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from labeler.accounts import PASSWORD_MAX
from preferences.records import Mode, Verdict

DAY_MS = 86_400_000


def _storable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("the text has half a character (a lone surrogate)") from error
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("a text is needed")
    return text


CONTROLS = {code: None for code in [*range(32), 127] if chr(code) not in "\t\n"}
REASON_MAX, REWRITE_MAX = 2_000, 20_000

Text = Annotated[str, AfterValidator(_storable)]
Prose = Annotated[Text, AfterValidator(lambda text: text.replace("\r\n", "\n").translate(CONTROLS))]
Ident = Annotated[Text, Field(min_length=1, max_length=64)]
Nonce = Annotated[Text, Field(min_length=8, max_length=64)]
Reason = Annotated[Prose, Field(max_length=REASON_MAX)]
Rewritten = Annotated[Prose, Field(max_length=REWRITE_MAX)]
ActiveMs = Annotated[int, Field(ge=0), AfterValidator(lambda ms: min(ms, DAY_MS))]
Tiers = Annotated[list[Annotated[list[Ident], Field(max_length=9)]], Field(max_length=9)]
Strengths = Annotated[list[int], Field(max_length=8)]
Flags = Annotated[dict[Ident, Annotated[list[Ident], Field(max_length=32)]], Field(max_length=9)]
Ratings = Annotated[dict[Ident, int], Field(max_length=9)]


class Body(BaseModel):
    """An unknown field is refused: a typo must not pass as silence."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LeaseBody(Body):
    """A comparison in the annotator's hands."""

    comparison: Ident
    lease: Ident


class SaidBody(LeaseBody):
    """What may be said beside the order."""

    reason: Reason = ""
    flags: Flags = {}
    ratings: Ratings = {}


class AnswerBody(LeaseBody):
    """What every answer has that a draft has not."""

    nonce: Nonce
    active_ms: ActiveMs = 0


class DraftBody(SaidBody):
    """What is said so far; `rewrite_of`: the best response, of which `rewrite` is a better version."""

    tiers: Tiers
    strengths: Strengths = []
    mode: Mode | None = None
    rewrite: Rewritten = ""
    rewrite_of: Annotated[Text, Field(max_length=64)] = ""


class SubmitBody(DraftBody, AnswerBody):
    """A ranking. `all_bad`: no response is acceptable; then no order is kept."""

    all_bad: bool = False


class SkipBody(SaidBody, AnswerBody):
    """A refusal to rank, and why. `verdict`: "cannot_rank" if nobody could."""

    reason: Annotated[Reason, AfterValidator(_not_blank)]
    verdict: Verdict = ""


class UndoBody(Body):
    """Take back the newest answer."""

    nonce: Nonce


class ReopenBody(Body):
    """An answer of one's own, to be changed."""

    ranking: Ident


class SettingsBody(Body):
    """An annotator's own settings; those that are not named stay as they are.

    `single_keys`: whether keys without Alt act on the board; `language`: of the interface, null is the browser's;
    `avoid`: tags of prompts that are not wanted; `tour`: whether the tour was seen.
    """

    single_keys: bool = True
    language: Literal["en", "zh", "es", "ar", "de"] | None = None
    avoid: Annotated[list[Annotated[Text, Field(min_length=1, max_length=200)]], Field(max_length=100)] | None = None
    tour: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("name a setting")
        return self


class VersionBody(Body):
    """Which version of a text of a study was read, or is agreed to; without `study` the one that is worked in first."""

    study: Ident | None = None
    version: Annotated[int, Field(ge=1, le=2**31)]


class RemarkBody(Body):
    """A message to the study's owner, about a comparison or in general."""

    text: Annotated[Reason, AfterValidator(_not_blank)]
    nonce: Nonce
    comparison: Ident | None = None
    study: Ident | None = None


class OwnPromptBody(Body):
    """A prompt that the annotator wants answers to."""

    study: Ident | None = None

    text: Annotated[Text, Field(max_length=4000), AfterValidator(_not_blank)]
    nonce: Nonce


class LoginBody(Body):
    """Who wants to come in."""

    name: Annotated[Text, Field(min_length=1, max_length=200)]
    password: Annotated[Text, Field(min_length=1, max_length=PASSWORD_MAX)]
