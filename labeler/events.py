"""What a page sends to have Python called, looked at before Gradio does: to what it does not expect it answers 500."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from labeler.bodies import Body
from labeler.failures import failure, sentence_of
from labeler.security import replay

RUN = "/gradio_api/run/"
Inputs = Mapping[int, Sequence[TypeAdapter[Any]]]  # of an app: number of an event -> what each of its inputs takes


class EventBody(Body):
    """An event of a page and the values of its inputs."""

    fn_index: int
    data: Annotated[list[Any], Field(max_length=100)]
    session_hash: Annotated[str, Field(max_length=64)] | None = None
    trigger_id: int | None = None
    event_data: Any = None


class Events:
    """Refuses events that an app has not, and values that their inputs cannot have. Pure ASGI, behind RequestGuard.

    `inputs`: path of a mounted Gradio app -> its events.
    """

    def __init__(self, app: ASGIApp, inputs: Mapping[str, Inputs]) -> None:
        self.app = app
        self.inputs = inputs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        mount, run, _ = scope.get("path", "").partition(RUN)
        if not run or mount not in self.inputs or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body = (await receive())["body"]
        mistake = mistake_in(body, self.inputs[mount])
        if mistake:
            await failure(422, "bad_request", mistake)(scope, receive, send)
            return
        await self.app(scope, replay(body, receive), send)


def mistake_in(body: bytes, events: Inputs) -> str:
    """Why the event cannot be run, in one sentence; "" if it can."""
    try:
        asked = EventBody.model_validate_json(body)
        inputs = events.get(asked.fn_index)
        if inputs is None or len(inputs) != len(asked.data):
            return "This page has no such event; load it again."
        for takes, value in zip(inputs, asked.data, strict=True):
            takes.validate_python(value, strict=True)
    except ValidationError as error:
        return sentence_of(error)
    return ""
