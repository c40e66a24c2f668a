"""What the sections of a recipe have in common."""

from typing import Annotated

from pydantic import ConfigDict, Field

FORBID_UNKNOWN = ConfigDict(extra="forbid")

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
