"""Text from outside made inert: prompts, replies, names and labels are shown, never obeyed.

HTML is escaped by the template engine. Two places remain: plotly reads ``<b>``, ``<a href>`` and
entities in any text it draws, and characters exist that no escaping makes harmless (controls,
direction overrides, lone surrogates).
"""

import html
import json
import re
from typing import Final

from markupsafe import Markup

#: Controls other than tab and newline, direction overrides and isolates, lone surrogates, and the
#: byte order mark: each is shown as its code point, so that no character changes how others read.
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)

#: In a script block these could end the block or start a comment; JSON has them in strings only.
_IN_SCRIPT: Final = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def visible(text: object) -> str:
    r"""`text` with every unseen or direction-changing character shown as its code point.

    Printable text, tabs and newlines are unchanged; ``\r\n`` becomes ``\n``.

    >>> visible("a\u202eb")
    'a⟨U+202E⟩b'
    """
    return _UNSEEN.sub(_code_point, str(text).replace("\r\n", "\n"))


def _code_point(match: re.Match[str]) -> str:
    return f"⟨U+{ord(match.group()):04X}⟩"


def plot_text(text: object) -> str:
    """`text` as plotly draws it literally: its pseudo-HTML and entities are escaped.

    >>> plot_text("<b>&amp;")
    '&lt;b&gt;&amp;amp;'
    """
    return html.escape(visible(text), quote=False).replace("\n", " ")


def clipped(text: str, limit: int) -> str:
    """The first `limit` characters of `text`; what was left out is counted at the end."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]} … ({len(text) - limit} more characters are in the recording)"


def script_json(value: object) -> Markup:
    """JSON of `value` (or JSON text as it is) that cannot end the script block that holds it."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return Markup(text.translate(_IN_SCRIPT))
