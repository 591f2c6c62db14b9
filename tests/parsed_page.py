"""The page as a browser's parser sees it: elements, attributes, text."""

import base64
import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import numpy as np

VOID = {"meta", "link", "br", "img", "input", "hr"}


@dataclass
class Element:
    tag: str
    attrs: dict[str, str]
    parent: "Element | None" = None
    children: list["Element"] = field(default_factory=list)
    own: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Own text nodes joined, without those of descendants."""
        return "".join(self.own)

    def walk(self) -> list["Element"]:
        return [self, *(inner for child in self.children for inner in child.walk())]

    def find(self, tag: str = "", *, name: str = "", kind: str = "") -> list["Element"]:
        return [
            element
            for element in self.walk()
            if (not tag or element.tag == tag)
            and (not name or element.attrs.get("id") == name)
            and (not kind or kind in element.attrs.get("class", "").split())
        ]

    def only(self, tag: str = "", *, name: str = "", kind: str = "") -> "Element":
        (found,) = self.find(tag, name=name, kind=kind)
        return found


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("document", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, {k: v or "" for k, v in attrs}, self.open[-1])
        self.open[-1].children.append(made)
        if tag not in VOID:
            self.open.append(made)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].own.append(data)


def parse(html: str) -> Element:
    """The document; a wrongly nested tag is an error."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    assert builder.open == [builder.root]
    return builder.root


def figure(page: Element, name: str) -> dict[str, Any]:
    """Data and layout of the figure `name`."""
    return json.loads(page.only("script", name=f"data-{name}").text)


def numbers(value: object) -> np.ndarray:
    """An array of a figure's JSON: a list with null for NaN, or plotly's typed base64."""
    if isinstance(value, dict):
        flat = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
        shape = value.get("shape")
        return flat if shape is None else flat.reshape([int(n) for n in shape.split(",")])
    return np.array(value, dtype=float)
