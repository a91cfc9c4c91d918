"""From Vega-Lite to an SVG that stands in a page: it fits the page's width, and has a text.

- Vega's own roles and labels go: a picture is one thing to a screen reader, with one text; what a
  mark says becomes its title, which browsers show at the pointer.
- Names inside it (clip paths) are its own; a page holds many.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import vl_convert

NAMESPACE = "http://www.w3.org/2000/svg"
#: What says nothing here, or the opposite of what it should.
NOISE = ("role", "aria-roledescription", "aria-hidden", "aria-label", "pointer-events", "class")
LONG = re.compile(r"\d+\.\d{3,}")


def svg(chart: dict[str, Any], *, name: str, text: str, classes: str) -> str:
    """``name`` is unique in the page; ``text`` says what the picture shows."""
    ElementTree.register_namespace("", NAMESPACE)
    root = ElementTree.fromstring(vl_convert.vegalite_to_svg(chart))
    for parent in list(root.iter()):
        for element in list(parent):
            if _unseen(element):
                parent.remove(element)
    for element in root.iter():
        _tidy(element, name)
    width, height = root.attrib.pop("width"), root.attrib.pop("height")
    root.attrib.pop("version", None)
    root.set("viewBox", f"0 0 {width} {height}")
    root.set("class", classes)
    root.set("role", "img")
    root.set("aria-label", text)
    # A picture larger than it was drawn looks coarse.
    root.set("style", f"max-width:{float(width) * 1.25:.0f}px")
    return ElementTree.tostring(root, encoding="unicode")


def _tidy(element: ElementTree.Element, name: str) -> None:
    says = element.get("aria-label") if "mark" in element.get("aria-roledescription", "") else None
    kind = element.get("class", "")
    for attribute in NOISE:
        element.attrib.pop(attribute, None)
    for attribute, value in element.attrib.items():
        if attribute == "id":
            value = f"{name}-{value}"
        value = value.replace("url(#", f"url(#{name}-")
        element.set(attribute, LONG.sub(lambda found: f"{float(found[0]):.2f}", value))
    if element.get("opacity") == "1":
        del element.attrib["opacity"]
    if found := re.search(r"role-(axis-label|axis-title|mark)", kind):
        element.set("class", found[1])
    if says and _tag(element) in ("path", "text", "line", "rect"):
        title = ElementTree.SubElement(element, f"{{{NAMESPACE}}}title")
        title.text = says


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _unseen(element: ElementTree.Element) -> bool:
    if element.get("display") == "none" or element.get("fill") == "transparent":
        return True
    if _tag(element) == "g":
        return not len(element) and not element.text
    return _tag(element) == "path" and element.get("d") in ("", "M0,0h0v0h0Z")
