"""HTML pages from Jinja templates: everything is escaped, and a missing value is an error."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup


def render(folder: Path, name: str, /, **values: Any) -> str:
    """Fills in one template of a folder; the others are there to import and to include.

    Included files, such as a style sheet, are templates as well and come as they are. Of the
    values only `markupsafe.Markup` does; other text is escaped.

    Args:
      folder: the folder of templates.
      name: the template's file name.
      values: what the template refers to.

    Raises:
      jinja2.UndefinedError: the template refers to something that is not among the values.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["csp_hash"] = _csp_hash
    return environment.get_template(name).render(values)


def _csp_hash(script: str) -> Markup:
    """What a Content-Security-Policy calls a script by that alone may run: its SHA-256."""
    digest = hashlib.sha256(script.encode()).digest()
    return Markup(f"'sha256-{base64.b64encode(digest).decode()}'")
