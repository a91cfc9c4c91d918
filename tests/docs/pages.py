"""The documentation as tests see it: pages of sections, sections of blocks, and links.

What a fence says after its language tells what is done with the block:

    ```python                   run as a program; it must end with exit code 0
    ```python file=app.py       kept beside the other blocks of the page under this name
    ```python server            started, and stopped at the end of the section
    ```sh run, ```sh server     the same for commands
    ```sh                       only shown, like every other language

`needs=NAME` skips the rest of the section where that distribution is not installed, `since=3.12`
before that Python. A ```text block that follows a run one is what it prints, `...` any text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])


@dataclass
class Block:
    """A fenced block."""

    language: str
    options: dict[str, str]
    text: str
    line: int
    output: str | None = None
    """What it prints, where the page says so."""

    @property
    def runs(self) -> bool:
        if "file" in self.options:
            return False
        return self.language == "python" or (
            self.language == "sh" and not self.options.keys().isdisjoint({"run", "server"})
        )


@dataclass
class Section:
    """What stands under one heading, up to the next of any level."""

    title: str
    line: int
    blocks: list[Block] = field(default_factory=list)


@dataclass
class Page:
    """A Markdown file."""

    path: Path
    sections: list[Section]
    links: list[str]
    titles: list[tuple[str, str]]
    """Links with the title that shows when one points at them."""
    anchors: set[str]

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def blocks(self) -> list[Block]:
        return [block for section in self.sections for block in section.blocks]

    def section(self, title: str) -> Section:
        [found] = [section for section in self.sections if section.title == title]
        return found


def read(path: Path) -> Page:
    """A page, parsed as GitHub would."""
    sections = [Section("", 1)]
    links: list[str] = []
    titles: list[tuple[str, str]] = []
    anchors: set[str] = set()
    previous: Block | None = None
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text())
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "heading_open":
            assert following is not None
            sections.append(Section(plain(following), line))
            anchors.add(anchor(plain(following)))
        elif token.type == "inline":
            for child in token.children or ():
                if child.type == "link_open":
                    links.append(str(child.attrs["href"]))
                    titles.append((links[-1], str(child.attrs.get("title", ""))))
        elif token.type == "fence":
            language, *words = token.info.split() or [""]
            options = {name: value for name, _, value in (word.partition("=") for word in words)}
            block = Block(language, options, token.content, line)
            if language == "text" and previous is not None and previous.runs:
                previous.output = token.content
            else:
                sections[-1].blocks.append(block)
            previous = block
            continue
        previous = None
    return Page(path, sections, links, titles, anchors)


def plain(heading: Token) -> str:
    return "".join(child.content for child in heading.children or ())


def anchor(title: str) -> str:
    """The name GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def table(page: Page, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without the header, marks kept."""
    lines = page.path.read_text().splitlines()
    start = page.section(heading).line
    rows: list[list[str]] = []
    for line in lines[start:]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif rows or line.startswith("#"):
            break
    return rows[2:]
