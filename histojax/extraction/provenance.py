"""Where the weights behind a result came from, in one line."""

from collections.abc import Iterable
from typing import Any

UNTRAINED = "UNTRAINED encoders: a trial of the pipeline, not a result"


def weights(made_with: Iterable[dict[str, Any] | None]) -> str:
    """One line on the weights behind a result; random ones are called what they are."""
    sources = sorted({each["weights"]["source"] if each else "not recorded" for each in made_with})
    note = f" ({UNTRAINED})" if any("random" in source for source in sources) else ""
    return f"weights: {' and '.join(sources)}{note}"
