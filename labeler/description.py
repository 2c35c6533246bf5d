"""The API described as OpenAPI, for researchers and admins, and for programs that test it: GET /openapi.json."""

from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse

from labeler.accounts import COOKIE
from labeler.downloads import Owner
from labeler.worker_tokens import PATH

SCHEMES = {
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
    "worker": {"type": "http", "scheme": "bearer"},
}


def description_routes() -> APIRouter:
    """It describes itself not; what it names, the gate guards all the same."""
    routes = APIRouter()

    @routes.get("/openapi.json", include_in_schema=False)
    def description(request: Request, _: Owner) -> JSONResponse:
        return JSONResponse(described(request.app))

    return routes


def described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the routes of the API, each with the key that opens it: a session or a worker's token."""
    document = app.openapi()
    document["components"]["securitySchemes"] = SCHEMES
    for path, operations in document["paths"].items():
        if path.startswith("/api/"):
            for operation in operations.values():
                operation["security"] = [{"worker" if path.startswith(PATH) else "session": []}]
    return document
