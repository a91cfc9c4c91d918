"""The build backend: meson-python's, with editable installs that outlive pip's build environment.

meson-python rebuilds an editable package at import, by the command that built it. Built by a plain
`pip install -e .`, that is a ninja, and behind it a Cython, which pip removed meanwhile, and the
import fails. The command given to it here, `rebuild`, knows what to do without them.
"""

import os
from pathlib import Path

import mesonpy
from mesonpy import (  # the other hooks of PEP 517 and PEP 660
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
]


def build_editable(
    wheel_directory: str,
    config_settings: dict[str, str | list[str]] | None = None,
    metadata_directory: str | None = None,
) -> str:
    os.environ["NINJA"] = str(Path(__file__).with_name("rebuild"))
    name: str = mesonpy.build_editable(wheel_directory, config_settings, metadata_directory)
    return name
