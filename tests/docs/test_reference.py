"""The reference says neither more nor less than there is: names, options, keys, backends, files."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable

import click
import pytest

import neverblock
from neverblock import errors, multiplexers
from neverblock.cli import commands
from neverblock.servers import Stream, StreamInfo
from tests.docs.pages import DOCS, ROOT, Page, read, table

PYTHON = read(DOCS / "reference" / "python.md")
STREAMS = read(DOCS / "reference" / "streams.md")
BACKENDS = read(DOCS / "reference" / "backends.md")
COMMAND_LINE = read(DOCS / "reference" / "command-line.md")
ARCHITECTURE = read(DOCS / "architecture.md")
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))


def codes(cells: Iterable[str]) -> list[str]:
    """What stands between backticks."""
    return [code for cell in cells for code in re.findall(r"`([^`]+)`", cell)]


def prose(page: Page) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.path.read_text(), flags=re.MULTILINE | re.DOTALL)


def first_column(page: Page, heading: str) -> list[str]:
    return codes(row[0] for row in table(page, heading))


def parameters(page: Page, name: str) -> list[str]:
    """The parameters in the line of code that shows how a function is called."""
    [shown] = re.findall(rf"^`(?:await )?{name}(\(.*\))`", page.path.read_text(), re.MULTILINE)
    return re.findall(r"(\*\*\w+|\*|[\w]+(?:=[^,)]+)?)(?:, |\))", shown)


def signature(function: object) -> list[str]:
    """The same of the function itself."""
    shown: list[str] = []
    for parameter in inspect.signature(function).parameters.values():  # type: ignore[arg-type]
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        default = parameter.default
        if parameter.kind is parameter.VAR_KEYWORD:
            shown.append(f"**{parameter.name}")
        elif default is parameter.empty:
            shown.append(parameter.name)
        else:
            shown.append(f"{parameter.name}={getattr(default, '__name__', default)}")
    return shown


def test_every_public_name_is_listed() -> None:
    names = {name.removeprefix("neverblock.") for name in first_column(PYTHON, "Running")}
    assert names == set(neverblock.__all__)


@pytest.mark.parametrize(
    ("page", "name", "function"),
    [
        (PYTHON, "run", neverblock.run),
        (PYTHON, "new_event_loop", neverblock.new_event_loop),
        (PYTHON, "Loop", neverblock.Loop),
        (STREAMS, "serve", neverblock.serve),
        (STREAMS, "Server", neverblock.Server),
    ],
)
def test_functions_are_called_as_shown(page: Page, name: str, function: object) -> None:
    assert parameters(page, name) == signature(function)


def test_every_count_of_a_loop_is_explained() -> None:
    loop = neverblock.Loop()
    statistics = loop.statistics()
    loop.close()
    assert set(first_column(PYTHON, "statistics")) == statistics.keys()
    counts = first_column(PYTHON, "Multiplexer statistics")
    assert set(counts) == statistics["multiplexer"].keys()


def test_every_public_name_of_multiplexers_is_listed() -> None:
    listed = {
        re.sub(r"\(.*\)", "", name.removeprefix("multiplexers."))
        for name in first_column(PYTHON, "Multiplexers")
    }
    classes = {class_name for class_name, _ in multiplexers.REGISTRY.values()}
    assert listed == classes | set(multiplexers.__all__)


def test_every_error_is_listed_with_what_else_it_is() -> None:
    ours = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and kind.__module__ == errors.__name__
    }
    rows = {codes(row[:1])[0]: codes(row[1:2])[0] for row in table(PYTHON, "Errors")}
    assert rows == {name: kind.__base__.__name__ for name, kind in ours.items()}


def test_every_method_of_a_stream_is_listed() -> None:
    shown = " ".join(first_column(STREAMS, "Stream"))
    listed = set(re.findall(r"stream\.(\w+)", shown))
    assert listed == {name for name in vars(Stream) if not name.startswith("_")}
    assert "async for chunk in stream" in shown


def test_methods_of_a_stream_are_called_as_shown() -> None:
    for shown in first_column(STREAMS, "Stream"):
        if call := re.fullmatch(r"await stream\.(\w+)\((.*)\)", shown):
            name, arguments = call.groups()
            expected = signature(getattr(Stream, name))[1:]
            assert [argument for argument in arguments.split(", ") if argument] == expected


def test_every_field_of_stream_info_is_listed() -> None:
    [info] = [row for row in table(STREAMS, "Stream") if row[0] == "`stream.info`"]
    assert codes(info[1:]) == ["StreamInfo", *StreamInfo._fields]


def test_the_table_of_backends_is_the_registry() -> None:
    rows = [codes(row[:2]) for row in table(BACKENDS, "Table")]
    assert rows == [[name, kind] for name, (kind, _) in multiplexers.REGISTRY.items()]


@pytest.mark.parametrize("name", multiplexers.REGISTRY)
def test_the_table_of_backends_tells_the_limit(name: str) -> None:
    if obstacle := multiplexers.available()[name]:
        pytest.skip(obstacle)
    [row] = [row for row in table(BACKENDS, "Table") if codes(row[:1]) == [name]]
    multiplexer = multiplexers.create(name)
    limit = multiplexer.limit
    multiplexer.close()
    assert row[3] == ("any number" if limit < 0 else f"0 to {limit - 1}")


@pytest.mark.parametrize("name", sorted(commands.commands))
def test_every_option_is_listed(name: str) -> None:
    command = commands.commands[name]
    listed = {option.split()[0] for option in first_column(COMMAND_LINE, name)}
    assert listed == {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }


def test_every_command_is_listed() -> None:
    titles = {section.title for section in COMMAND_LINE.sections}
    assert titles >= commands.commands.keys()


def test_the_architecture_page_names_every_file_of_the_package() -> None:
    package = ROOT / "src" / "neverblock"
    files = {
        str(path.relative_to(package))
        for path in package.rglob("*")
        if path.suffix in {".py", ".pyx", ".pxd", ".h"}
        and not (path.suffix == ".pxd" and path.with_suffix(".pyx").exists())
        and path.stem != "__init__"
    }
    named = set(codes([prose(ARCHITECTURE)]))
    assert files <= named, f"not named: {sorted(files - named)}"


def test_the_architecture_page_names_no_file_that_is_not_there() -> None:
    gone = [
        code
        for code in codes([prose(ARCHITECTURE)])
        if re.fullmatch(r"[\w/]+\.(py|pyx|pxd|md|toml|h)", code)
        and not (ROOT / code).exists()
        and not (ROOT / "src" / "neverblock" / code).exists()
    ]
    assert not gone


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_says_why_and_what_would_change_it(path: object) -> None:
    page = read(path)  # type: ignore[arg-type]
    titles = [section.title for section in page.sections if section.title]
    assert titles[1:] == ["Context", "Decision", "Consequences", "What would change our mind"]
    assert titles[0].startswith(f"{page.path.stem[:4]} ")


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(path.stem[:4]) for path in DECISIONS]
    assert numbers == list(range(1, len(numbers) + 1))
