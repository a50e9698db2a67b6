"""A strict reader of the report page: what a browser forgives, it does not."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "br", "img"}
SVG = {"svg", "g", "path", "rect", "circle", "line", "use"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    parents: tuple[str, ...]
    text: str = ""
    """Of the element and everything in it."""

    def has_class(self, name: str) -> bool:
        return name in self.attributes.get("class", "").split()


@dataclass
class Page(HTMLParser):
    """Elements in document order; raises AssertionError where tags don't match."""

    source: str
    elements: list[Element] = field(default_factory=list)
    declared: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[Element] = []
        self.feed(self.source)
        self.close()
        assert not self.open, f"never closed: {[element.tag for element in self.open]}"

    def handle_decl(self, decl: str) -> None:
        self.declared = decl

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._add(tag, attrs)
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG, f"<{tag}/> does not close anything in HTML"
        self._add(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1].tag == tag, f"</{tag}> inside <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def _add(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        parents = tuple(element.tag for element in self.open)
        self.elements.append(Element(tag, {k: v or "" for k, v in attrs}, parents))

    def all(self, tag: str, *classes: str) -> list[Element]:
        found = (element for element in self.elements if element.tag == tag)
        return [element for element in found if all(map(element.has_class, classes))]

    def with_id(self, name: str) -> Element:
        (found,) = [e for e in self.elements if e.attributes.get("id") == name]
        return found


def lookup(manifest: Any, path: str) -> Any:
    """The value at a path such as engines[2].latency.p50_ms."""
    steps = re.findall(r"\[(\d+)\]|\[\"([^\"]*)\"\]|([A-Za-z_]\w*)", path)
    value = manifest
    for index, quoted, name in steps:
        value = value[int(index)] if index else value[quoted or name]
    return value
