"""Every failure as one sentence of JSON: {"error": sentence, "code": word}."""

import logging
import sqlite3
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from labeler.accounts import BadLogin, Forbidden
from labeler.security import HEADERS
from labeler.turnstile import TooManyTries
from preferences.errors import (
    BadAnswer,
    BadTiers,
    BadUpload,
    NonceUsed,
    NoRoom,
    NotHeld,
    NothingToUndo,
    NotLeased,
    NotReady,
    RankloopError,
    UnknownName,
)
from preferences.logs import note
from preferences.rounds import GateClosed

CODES: dict[type[RankloopError], tuple[int, str]] = {
    NotLeased: (409, "not_leased"),
    BadTiers: (422, "bad_tiers"),
    BadAnswer: (422, "bad_answer"),
    NonceUsed: (409, "nonce_used"),
    NothingToUndo: (409, "nothing_to_undo"),
    NotReady: (409, "not_ready"),
    GateClosed: (409, "gate_closed"),
    NotHeld: (409, "not_held"),
    BadUpload: (422, "bad_upload"),
    NoRoom: (507, "no_room"),
    BadLogin: (401, "bad_login"),
    TooManyTries: (429, "too_many"),
    Forbidden: (403, "forbidden"),
    UnknownName: (404, "unknown"),
}
HTTP_ERRORS = {
    404: ("unknown", "There is nothing at this address."),
    405: ("bad_request", "This address does not take that method."),
}


def failure(status: int, code: str, sentence: str, **more: Any) -> JSONResponse:
    """The answer to a request that failed."""
    return JSONResponse({"error": sentence, "code": code, **more}, status, headers=HEADERS)


def status_and_code(error: RankloopError) -> tuple[int, str]:
    """The HTTP status and the code word of a user's mistake."""
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), (400, "bad_request"))


def sentence_of(error: RequestValidationError | ValidationError) -> str:
    """The first mistake in a request's body, without its content."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return "The request is not valid JSON."
    field = ".".join(str(part) for part in first["loc"] if part != "body")
    message = first["msg"].removeprefix("Value error, ")
    return f"The request is malformed: {f'{field}: ' if field else ''}{message}."


def add_failures(app: FastAPI) -> None:
    """Answer every kind of failure of `app` in that form."""

    def mistake(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RankloopError)
        status, code = status_and_code(error)
        more = {"saved": error.ranking} if isinstance(error, NonceUsed) else {}
        return failure(status, code, str(error), **more)

    def malformed(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return failure(422, "bad_request", sentence_of(error))

    def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code, sentence = HTTP_ERRORS.get(error.status_code, ("bad_request", "The request is malformed."))
        return failure(error.status_code, code, sentence)

    def busy(_: Request, error: Exception) -> JSONResponse:
        note("database", logging.ERROR, error, code=getattr(error, "sqlite_errorname", None))
        return failure(503, "busy", "The database is busy or its disk is full; try again.")

    def damaged(_: Request, error: Exception) -> JSONResponse:
        note("database", logging.ERROR, error, code=getattr(error, "sqlite_errorname", None))
        return failure(503, "broken", "The database cannot be read; tell whoever runs this server.")

    def broken(_: Request, error: Exception) -> JSONResponse:
        note("failure", logging.ERROR, error)
        return failure(500, "broken", "The server failed; try again.")

    app.add_exception_handler(RankloopError, mistake)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(sqlite3.OperationalError, busy)
    app.add_exception_handler(sqlite3.DatabaseError, damaged)
    app.add_exception_handler(Exception, broken)
