"""The pictures of prompts, from our own address: nothing that an annotator reads is loaded from elsewhere."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from preferences.store import Store

ImageId = Annotated[str, Path(pattern=r"^[0-9a-f]{40}$")]


def image_api(store: Store) -> APIRouter:
    """GET /api/images/ID."""
    api = APIRouter(prefix="/api/images")

    @api.get("/{ident}", response_class=Response)
    def image(ident: ImageId) -> Response:
        return Response(store.images.get(ident).data, media_type="image/webp")

    return api
