"""What study owners do from the command line and from the Study page alike."""

import csv
import io
import json
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from labeler.accounts import Forbidden, token_hash
from preferences.errors import BadRecord, RankloopError
from preferences.exchange.checks import check_prompt
from preferences.exchange.importing import as_prompt
from preferences.exchange.reading import check_text
from preferences.plan import BadPlan
from preferences.records import Annotator, Role, Study
from preferences.store import Store

DAY_SECONDS = 24 * 3600.0
MOST_INVITED = 1000
# What a table program takes for a formula: at the beginning, and after each separator that some language's takes for one.
FORMULA = re.compile(r"(^|[,;|\t\r\n])(?=\s*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20])")
HOURS = ("annotator", "simulated", "rankings", "skips", "hours", "first", "last")


class BadName(RankloopError):
    """A name that cannot be typed at the login page, or too many of them."""


def plan_of(settings: Sequence[str]) -> dict[str, Any]:
    """{"name": value} of "name=value" texts, whose values are JSON or plain words. Raises BadPlan."""
    broken = [setting for setting in settings if "=" not in setting]
    if broken:
        raise BadPlan(" ".join(f"A plan's setting is name=value, not {setting!r}." for setting in broken))
    plan = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        try:
            plan[name] = decoded(text)
        except ValueError:
            plan[name] = text
    return plan


def decoded(text: str) -> Any:
    """What the JSON text says. ValueError if it is none, is nested too deep, or holds what cannot be stored."""
    try:
        found = json.loads(text)
        check_text(found)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return found


def check_name(name: str) -> None:
    """Raises BadName unless it is a name that can be typed at the login page."""
    if name != name.strip() or not name.isprintable() or not 1 <= len(name) <= 200:
        raise BadName("A name has 1 to 200 printable characters and no space at its ends; choose another one.")


def names_in(pasted: str) -> list[str]:
    """The names of a paste, each once: one a line, or with commas or semicolons between them. Raises BadName."""
    names = [name.strip() for name in re.split(r"[\n\r,;]", pasted) if name.strip()]
    for name in names:
        check_name(name)
    unique = list({name.casefold(): name for name in names}.values())
    if not unique:
        raise BadName("There is no name to invite; give one a line.")
    if len(unique) > MOST_INVITED:
        raise BadName(f"These are {len(unique)} names; invite at most {MOST_INVITED} at once.")
    return unique


def prompts_in(pasted: str) -> list[dict[str, Any]]:
    """The prompts of a paste, one a line: a text, or a record as in a file of prompts. Raises BadRecord."""
    found = []
    for number, line in enumerate(pasted.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = as_prompt(decoded(line) if line.lstrip().startswith("{") else {"prompt": line.strip()})
            check_prompt(record)
            if any("images" in message for message in [record, *record["messages"]]):
                raise ValueError("pictures come with a file: labeler import prompts FILE")
        except ValueError as error:
            raise BadRecord(f"Line {number} of the prompts: {error}; correct it.") from error
        found.append(record)
    return found


def invite(
    store: Store, pasted: str, role: Role, days: float, languages: Sequence[str], address: str,
    actor: Annotator | None = None,
) -> list[tuple[str, str]]:  # fmt: skip
    """Accounts for all names of a paste, or for none: (name, link) of each. Each link is good once, for `days`.

    `address`: of this labeler, as the invited see it; `actor`: who invites, None for the command line.
    Raises Forbidden if their role is not above the one that they give; BadName, NameTaken.
    """
    if actor and actor.role != "admin" and role != "annotator":
        raise Forbidden(f"Only an admin invites a {role}.")
    check_days(days)
    links = []
    with store.write():
        for name in names_in(pasted):
            token = secrets.token_urlsafe(32)
            account = store.invites.add(
                name, role, token_hash(token), days * DAY_SECONDS, languages, actor.id if actor else ""
            )
            links.append((account.name, join_link(address, token)))
    return links


def reset(store: Store, account: Annotator, days: float, address: str, actor: Annotator | None = None) -> str:
    """A link, good once and for `days`, at which the account's owner sets another password; the old one is void at once.

    `address`, `actor`: as of `invite`. Raises Forbidden unless an admin asks, BadName if the account may not log in.
    """
    if actor and actor.role != "admin":
        raise Forbidden("Only an admin resets passwords.")
    if not account.active:
        raise BadName(f"{account.name} may not log in, so there is no password to reset; let them in first.")
    check_days(days)
    token = secrets.token_urlsafe(32)
    store.invites.reset(account, token_hash(token), days * DAY_SECONDS, actor.id if actor else "")
    return join_link(address, token)


def check_days(days: float) -> None:
    """Raises BadName unless a link may last so long."""
    if not 0 < days <= 365:
        raise BadName(f"A link lasts up to 365 days, not {days:g}.")


def join_link(address: str, token: str) -> str:
    """Where whoever holds the token sets a password."""
    return f"{address.rstrip('/')}/join?token={token}"


def hours_csv(store: Store, study: Study, since: float = 0.0, until: float = float("inf")) -> str:
    """Active hours of each annotator of a study, as CSV: every ranking and skip counts, also those changed later."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(HOURS)
    for row in store.work.hours(study, since, until):
        first, last = (datetime.fromtimestamp(row[when]).isoformat(timespec="seconds") for when in ("first", "last"))
        hours = f"{row['active_ms'] / 3_600_000:.4f}"
        writer.writerow(
            [safe_cell(row["annotator"]), row["simulated"], row["rankings"], row["skips"], hours, first, last]
        )
    return text.getvalue()


def safe_cell(text: str) -> str:
    """The text as a cell of CSV that no table program takes for a formula and no browser for a tag."""
    return FORMULA.sub(r"\1'", text).replace("<", "\u2039")
