"""What a worker on another host may say of its stages: JSON Schemas of the shape that forms and launches read."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from labeler.bodies import Body, Text
from labeler.options import fits

Kind = Literal["integer", "number", "boolean", "string", "null", "array"]
Words = Annotated[Text, Field(max_length=4000)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
Value = Words | bool | int | Annotated[float, Field(allow_inf_nan=False)] | None


class Known(Body):
    """What a newer worker says beside it is left out."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class Item(Known):
    """What an option takes."""

    type: Kind | Annotated[list[Kind], Field(min_length=1, max_length=6)]
    enum: Annotated[list[Words | None], Field(max_length=100, default_factory=list)]


class Option(Item):
    """One option. `format`: what the page offers to choose from; `main`: its place among those that are asked for first."""

    title: Words = ""
    description: Words = ""
    default: Value | Annotated[list[Value], Field(max_length=100)] = None
    format: Literal["study", "policy", "reward-model", "adapter", "run"] | None = None
    main: Annotated[int, Field(ge=0, le=100)] = 0
    items: Item | None = None

    @model_validator(mode="after")
    def _chosen_by_name(self) -> Self:
        """What is chosen is a name, or of policies several."""
        kinds = {self.type} if isinstance(self.type, str) else {*self.type}
        several = self.format == "policy" and self.items is not None and self.items.type == "string"
        if self.format and not kinds <= {"string", "null", *(["array"] if several else [])}:
            raise ValueError("what is chosen by its name is a text")
        return self

    @model_validator(mode="after")
    def _fits_itself(self) -> Self:
        said = self.model_dump(exclude_unset=True)
        if "default" in said and not fits(said, self.default):
            raise ValueError("an option takes its own default")
        return self


class StageSchema(Known):
    """The options of a stage. `makes_run`: whether it writes a folder of its own."""

    title: Words
    description: Words
    type: Literal["object"] = "object"
    properties: Annotated[dict[Name, Option], Field(max_length=200)]
    required: Annotated[list[Name], Field(max_length=200)]
    additionalProperties: Literal[False] = False
    makes_run: bool = True


Stages = Annotated[dict[Name, StageSchema], Field(max_length=20)]
