"""An annotator's own answers, with the letters as they saw them, and the way back to one."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse, Response

from labeler.account import Account
from labeler.assignment import LEASE_SECONDS
from labeler.bodies import ReopenBody
from labeler.rendering import Rendering
from labeler.replies import Following
from labeler.tasks import leased_json, messages_json, responses_json
from preferences.rankings import ALL_BAD
from preferences.records import Annotator, Prompt, Ranking
from preferences.store import Store

LETTERS = "ABCDEFGHI"
SHOWN = 50
EXCERPT = 160


def history_api(store: Store, rendering: Rendering) -> APIRouter:
    """GET history, history/RANKING; POST reopen."""
    api = APIRouter(prefix="/api")

    @api.get("/history")
    def history(account: Account, offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0) -> dict[str, Any]:
        return history_json(store, account, offset)

    @api.get("/history/{ranking}")
    def answered(account: Account, ranking: Annotated[str, Path(max_length=64)]) -> dict[str, Any]:
        return rendering.task(answer_json(store, store.rankings.get(account, ranking)))

    @api.post("/reopen", response_model=Following)
    def reopen(body: ReopenBody, account: Account) -> Response:
        lease = store.rankings.reopen(account, body.ranking, LEASE_SECONDS)
        return JSONResponse({"next": rendering.page(leased_json(store, account, lease))})

    return api


def history_json(store: Store, annotator: Annotator, offset: int) -> dict[str, Any]:
    """{"answers": the newest but `offset`, newest first, "more": whether there are older ones}."""
    found = store.rankings.history(annotator, SHOWN + 1, offset)
    return {
        "answers": [_line(ranking, store.prompts.of_comparison(ranking.comparison)) for ranking in found[:SHOWN]],
        "more": len(found) > SHOWN,
    }


def answer_json(store: Store, ranking: Ranking) -> dict[str, Any]:
    """One answer with all that it was about; `tiers` and the rest by response id, `responses` in the order shown."""
    prompt = store.prompts.of_comparison(ranking.comparison)
    return {
        **_line(ranking, prompt),
        "prompt": messages_json(prompt.messages),
        "responses": responses_json(store, ranking.order),
        "tiers": [] if ALL_BAD in ranking.flags else ranking.tiers,
        "strengths": ranking.strengths,
        "flags": {item: names for item, names in ranking.flags.items() if item != ALL_BAD},
        "ratings": ranking.ratings,
        "mode": ranking.mode,
        "rewrite": {"original": ranking.rewrite_of, "text": ranking.rewrite} if ranking.rewrite_of else None,
    }


def echo(ranking: Ranking) -> str:
    """ "B > D = A > C", with the letters that stood on the cards; "C > (A, B, D, E) > F" where some were not compared."""
    letters = {item: LETTERS[index] for index, item in enumerate(ranking.order)}
    tiers = [[letters[item] for item in tier] for tier in ranking.tiers]
    if ranking.mode == "best-worst":
        best, middle, worst = tiers
        return f"{best[0]} > ({', '.join(sorted(middle))}) > {worst[0]}"
    return " > ".join(" = ".join(tier) for tier in tiers)


def excerpt(prompt: Prompt, most: int) -> str:
    """The beginning of a prompt's last message."""
    text = prompt.messages[-1]["content"]
    return text if len(text) <= most else f"{text[:most]}…"


def _line(ranking: Ranking, prompt: Prompt) -> dict[str, Any]:
    return {
        "id": ranking.id,
        "created": ranking.created,
        "kind": ranking.kind,
        "verdict": "all_bad" if ALL_BAD in ranking.flags else ranking.verdict,
        "excerpt": excerpt(prompt, EXCERPT),
        "echo": echo(ranking) if ranking.kind == "ranking" and ALL_BAD not in ranking.flags else "",
        "reason": ranking.reason,
        "active_ms": ranking.active_ms,
    }
