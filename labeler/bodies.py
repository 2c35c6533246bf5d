"""What the API reads, checked before anything else happens."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from labeler.accounts import PASSWORD_MAX

DAY_MS = 86_400_000


def _storable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("the text has half a character (a lone surrogate)") from error
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("a reason is needed")
    return text


Text = Annotated[str, AfterValidator(_storable)]
Ident = Annotated[Text, Field(min_length=1, max_length=64)]
Nonce = Annotated[Text, Field(min_length=8, max_length=64)]
Reason = Annotated[Text, Field(max_length=2000)]
ActiveMs = Annotated[int, Field(ge=0), AfterValidator(lambda ms: min(ms, DAY_MS))]
Tiers = Annotated[list[Annotated[list[Ident], Field(max_length=9)]], Field(max_length=9)]


class Body(BaseModel):
    """An unknown field is refused: a typo must not pass as silence."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SubmitBody(Body):
    """A full ranking."""

    comparison: Ident
    lease: Ident
    nonce: Nonce
    tiers: Tiers
    active_ms: ActiveMs = 0
    reason: Reason = ""


class SkipBody(Body):
    """A refusal to rank, and why."""

    comparison: Ident
    lease: Ident
    nonce: Nonce
    reason: Annotated[Reason, AfterValidator(_not_blank)]
    active_ms: ActiveMs = 0


class UndoBody(Body):
    """Take back the newest answer."""

    nonce: Nonce


class DraftBody(Body):
    """What is placed so far."""

    comparison: Ident
    lease: Ident
    tiers: Tiers


class SettingsBody(Body):
    """An annotator's own settings. `single_keys`: whether keys without Alt act on the board."""

    single_keys: bool


class LoginBody(Body):
    """Who wants to come in."""

    name: Annotated[Text, Field(min_length=1, max_length=200)]
    password: Annotated[Text, Field(min_length=1, max_length=PASSWORD_MAX)]
