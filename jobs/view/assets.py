"""Pages made of one file each: templates with autoescape, styles and scripts inside the page, and
a Content-Security-Policy that lets nothing else run or load."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# What could end the script element, or open a comment in it, is escaped; so are the line ends
# that JSON has and old scripts have not (ensure_ascii).
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def render(
    template: str,
    *,
    style: Sequence[str],
    script: Sequence[str],
    data: Mapping[str, Any],
    **text: str,
) -> str:
    """The page: `style` and `script` name files of static/, `data` is what the script reads,
    `text` what the template shows."""
    css, js = _together(tuple(style)), _together(tuple(script))
    policy = (
        f"default-src 'none'; script-src '{_digest(js)}'; style-src '{_digest(css)}'; "
        "img-src data:; media-src 'self' file: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template(template)
        .render(
            policy=policy,
            style=Markup(css),
            script=Markup(js),
            data=Markup(json.dumps(data, separators=(",", ":")).translate(_ESCAPES)),
            **text,
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("jobs.view"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _together(names: tuple[str, ...]) -> str:
    folder = files("jobs.view") / "static"
    return "\n" + "\n".join((folder / name).read_text("utf-8") for name in names)


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
