"""What an output may be: float32, one row of scores for each image."""

from __future__ import annotations

from typing import Final

_REMEDIES: Final = {
    "float16": "end it with a cast to float32",
    "bfloat16": "end it with a cast to float32",
    "float64": "end it with a cast to float32",
}
_NO_SCORES: Final = "leave out what makes it of the scores (an argmax, a threshold)"


def why_no_scores(dtype: str) -> str | None:
    """Why an output of this type (numpy's or PyTorch's name) cannot be taken, and what to do.

    Certificates compare float32 scores, and packages declare them.
    """
    if dtype == "float32":
        return None
    return f"{dtype}, expected float32 scores: {_REMEDIES.get(dtype, _NO_SCORES)}"
