"""plotly.js inside the page: compressed once, inflated by the browser, allowed by its digest."""

import base64
import functools
import gzip
import hashlib
from pathlib import Path
from typing import Final

from markupsafe import Markup
from plotly.offline import get_plotlyjs

ASSETS: Final = Path(__file__).parent / "assets"


@functools.cache
def plotly_base64() -> str:
    """plotly.js as base64 of gzip: two fifths of its plain size, and no time stamp in it."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


@functools.cache
def page_script() -> str:
    """The page's own script, which inflates plotly.js and draws the figures."""
    return (ASSETS / "page.js").read_text(encoding="utf-8")


@functools.cache
def page_style() -> str:
    """The page's style sheet."""
    return (ASSETS / "page.css").read_text(encoding="utf-8")


@functools.cache
def content_policy() -> Markup:
    """What the page may do: run exactly two scripts, style itself, draw; and load nothing.

    Scripts are allowed by digest, so text that slipped through as a script would not run. plotly
    needs inline styles, ``data:`` and ``blob:`` images (to save a figure as a picture).
    """
    scripts = " ".join(f"'{_digest(text)}'" for text in (page_script(), get_plotlyjs()))
    return Markup(
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline';"
        " img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
