"""Markdown in which names are text: neither markup, HTML, mathematics nor a link to an image."""

import re

_MARKUP = re.compile(r"([\\`*\[\]<>|~$&])")


def literal(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
