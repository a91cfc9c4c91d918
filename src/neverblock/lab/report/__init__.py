"""The report of a comparison: one HTML file that needs no network, made from its results."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from neverblock.errors import LabError
from neverblock.lab.results import Results
from neverblock.lab.results import write as write_file

__all__ = ["NAME", "render", "require", "write"]

#: The file's name, beside results.json.
NAME: Final = "index.html"

#: What draws it.
NEEDED: Final = ("altair", "jinja2", "markupsafe", "vl_convert")


def require() -> None:
    """Raises LabError where what draws the charts is not installed. Imports none of it."""
    for name in NEEDED:
        if find_spec(name) is None:
            raise LabError(
                f"the report needs {name}, which is not installed: pip install 'neverblock[lab]'"
            )


def render(results: Results, baseline: Results | None = None, tolerance: float = 0.0) -> str:
    """The page as text; with an older run, what changed since by more than the tolerance, a share.

    Raises LabError where what draws the charts is not installed.
    """
    require()
    from neverblock.lab.report.page import page

    return page(results, baseline, tolerance)


def write(
    results: Results, directory: Path, baseline: Results | None = None, tolerance: float = 0.0
) -> Path:
    """Put the page into a directory, whole or not at all. Raises OSError and LabError."""
    path = directory / NAME
    write_file(path, render(results, baseline, tolerance))
    return path
