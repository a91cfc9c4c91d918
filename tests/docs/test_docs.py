"""The documentation does what it says: its programs run, its links lead somewhere."""

from __future__ import annotations

import doctest
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, Block, Page, Section, read

#: Seconds after which a program that should have come to its end counts as hung.
PATIENCE = 60.0
#: Where the pages' servers listen; the tests put free ports in their place.
ADDRESS = re.compile(r'(?:127\.0\.0\.1|localhost)(?::|", )(\d{4,5})\b')
BIN = Path(sys.executable).parent

READ = [read(path) for path in PAGES]


def watched(section: Section) -> bool:
    """Whether the watch says something there: what it says is another thing on a busy machine."""
    return any(
        re.search(r"\bwatch\b|stall|\bblocked\b", block.text + (block.output or ""), re.IGNORECASE)
        for block in section.blocks
    )


RUN = [
    pytest.param(
        *(page, section),
        id=f"{page.name}: {section.title}",
        marks=[pytest.mark.alone] if watched(section) else [],
    )
    for page in READ
    for section in page.sections
    if any(block.runs for block in section.blocks)
]


@pytest.mark.parametrize(("page", "section"), RUN)
def test_what_a_page_shows_can_be_run(page: Page, section: Section, tmp_path: Path) -> None:
    ports = free_ports(section)
    for block in page.blocks:
        if name := block.options.get("file"):
            (tmp_path / name).write_text(moved(block.text, ports))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    with ExitStack() as servers:
        for block in section.blocks:
            skip_without(block.options)
            if not block.runs:
                continue
            text = moved(block.text, ports)
            expected = None if block.output is None else moved(block.output, ports)
            where = f"{page.name}:{block.line}"
            command = command_of(block, text, tmp_path)
            if "server" in block.options:
                asked = [port for port in ports.values() if port in text]
                servers.enter_context(served(command, tmp_path, asked, expected, where))
            else:
                done = subprocess.run(
                    command,
                    cwd=tmp_path,
                    env=environment(),
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                    check=False,
                )
                assert done.returncode == 0, f"{where}\n{done.stdout}{done.stderr}"
                assert "Traceback" not in done.stderr, f"{where}\n{done.stderr}"
                check_output(done.stdout, expected, where)


def skip_without(options: dict[str, str]) -> None:
    """Skip where the block could not be run by its reader either."""
    if name := options.get("needs"):
        try:
            version(name)
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed")
    if (since := options.get("since")) and sys.version_info < tuple(map(int, since.split("."))):
        pytest.skip(f"needs Python {since}")


def free_ports(section: Section) -> dict[str, str]:
    """A free port for each one that the section names."""
    named = {port for block in section.blocks for port in ADDRESS.findall(block.text)}
    with ExitStack() as held:
        ports = {}
        for port in sorted(named):
            sock = held.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            ports[port] = str(sock.getsockname()[1])
        return ports


def moved(text: str, ports: dict[str, str]) -> str:
    for named, free in ports.items():
        text = re.sub(rf"\b{named}\b", free, text)
    return text


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "NEVERBLOCK_BACKEND"}
    return kept | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}


def command_of(block: Block, text: str, directory: Path) -> list[str]:
    if block.language == "sh":
        # exec, that a server's signals reach it and not the shell before it.
        single = len(text.strip().splitlines()) == 1 and "server" in block.options
        return ["bash", "-euc", f"exec {text}" if single else text]
    program = directory / f"line_{block.line}.py"
    program.write_text(text)
    return [sys.executable, str(program)]


@contextmanager
def served(
    command: list[str], directory: Path, ports: list[str], expected: str | None, where: str
) -> Iterator[None]:
    """A server of a page, from when it accepts connections; SIGTERM must end it quietly."""
    with subprocess.Popen(
        command,
        cwd=directory,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert ports, f"{where}: no 127.0.0.1:PORT in its section tells where it listens"
            for port in ports:
                wait_until_served(int(port), process, where)
            yield
            process.terminate()
            output, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode in {0, -signal.SIGTERM, 128 + signal.SIGTERM}, errors
            check_output(output, expected, where)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def wait_until_served(port: int, process: subprocess.Popen[str], where: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > deadline:
                os.killpg(process.pid, signal.SIGKILL)
                pytest.fail(f"{where} does not listen:\n{process.communicate()}")
        # Other packages do not tell when they accept.
        time.sleep(0.02)


def check_output(output: str, expected: str | None, where: str) -> None:
    if expected is not None:
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        same = doctest.OutputChecker().check_output(expected, output, flags)
        assert same, f"{where} prints:\n{output}"


def test_the_picture_of_the_demo_shows_what_the_demo_shows() -> None:
    [readme] = [page for page in READ if page.name == "README.md"]
    [picture] = [block for block in readme.section("The demo").blocks if block.language == "text"]
    shown = subprocess.run(
        [sys.executable, "examples/demo.py", "--clients", "100", "--seconds", "0.05"],
        cwd=ROOT,
        env=environment() | {"COLUMNS": "96"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout
    words = re.compile(r"[A-Za-z/]{2,}")  # The figures are another day's.
    assert words.findall(picture.text) == words.findall(shown)


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Page) -> None:
    dead = []
    for link in page.links:
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.path.parent / target).resolve() if target else page.path
        if not path.exists() or (anchor and anchor not in anchors(path)):
            dead.append(link)
    assert not dead


def anchors(path: Path) -> set[str]:
    if path.suffix == ".html":
        return set(re.findall(r'\bid="([^"]+)"', path.read_text()))
    return set(read(path).anchors)


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_a_test_that_is_said_to_hold_something_exists(page: Page) -> None:
    gone = [
        f"{link}::{title}"
        for link, title in page.titles
        if title.startswith("test_")
        and not re.search(
            rf"^(async )?def {title}\(", (page.path.parent / link).read_text(), re.MULTILINE
        )
    ]
    assert not gone


def test_every_page_can_be_found_from_the_readme() -> None:
    pages = {page.path: page for page in READ}
    found: set[Path] = set()
    left = [ROOT / "README.md"]
    while left:
        path = left.pop()
        if path in found:
            continue
        found.add(path)
        links = [link.partition("#")[0] for link in pages[path].links if "://" not in link]
        targets = [(path.parent / link).resolve() for link in links if link]
        left += [target for target in targets if target in pages]
    assert found == pages.keys()


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_a_fence_says_only_what_is_known(page: Page) -> None:
    known = {"run", "server", "file", "needs", "since"}
    wrong = [f"line {block.line}" for block in page.blocks if block.options.keys() - known]
    assert not wrong
