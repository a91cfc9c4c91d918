"""The rules of the tree itself: who may import whom, the size of files, what must match what."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from neverblock import multiplexers

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "neverblock"
SOURCES = sorted(path for path in PACKAGE.rglob("*.p*") if path.suffix in {".py", ".pyx", ".pxd"})
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCES
}

#: Lowest first. A module imports from its own part or from lower lines; parts that share a line
#: do not know each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "_compat"),
    ("multiplexers",),
    ("engine",),
    ("loop", "policy"),
    ("", "watch", "servers"),  # "" is neverblock/__init__.py: the public names
    ("load",),
    ("lab",),
    ("cli",),
    ("__main__", "stalled_tests"),
    ("pytest_plugin",),
)
LEVELS = {part: level for level, parts in enumerate(LAYERS) for part in parts}
#: Parts of one line that do know each other: the loop has a policy, the public names have an owner,
#: a server's loop is watched.
TOGETHER = {
    *(("policy", "loop"), ("servers", "watch")),
    *(("", "watch"), ("", "servers"), ("watch", ""), ("servers", "")),
}
#: These stand where a user does: they import the public names alone.
OUTSIDERS = {"servers", "load", "lab"}
PRIVATE = {"_compat", "engine", "loop", "policy"}

CYTHON_IMPORT = re.compile(
    r"^[ \t]*from[ \t]+(?P<module>[\w.]+)[ \t]+c?import[ \t]+(?P<names>\([^)]*\)|[^\n#]+)"
    r"|^[ \t]*c?import[ \t]+(?P<modules>[\w., \t]+)",
    re.MULTILINE,
)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def part_of(module: str) -> str:
    """The "engine" of neverblock.engine.ready; "" for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Every (module, name) that a file imports from this package; name is "" for the module."""
    for module, names in python_imports(path) if path.suffix == ".py" else cython_imports(path):
        for name in names or [""]:
            if module.split(".")[0] != "neverblock":
                continue
            inner = f"{module}.{name}"
            yield (inner, "") if inner in MODULES else (module, name)


def python_imports(path: Path) -> Iterator[tuple[str, list[str]]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield absolute(path, node), [alias.name for alias in node.names]


def absolute(path: Path, node: ast.ImportFrom) -> str:
    parents = path.relative_to(PACKAGE.parent).parts[: -node.level or None] if node.level else ()
    return ".".join([*parents, *filter(None, [node.module])])


def cython_imports(path: Path) -> Iterator[tuple[str, list[str]]]:
    for found in CYTHON_IMPORT.finditer(path.read_text()):
        if found["modules"]:
            yield from ((module.split()[0], []) for module in found["modules"].split(","))
        else:
            names = re.sub(r"#.*", "", found["names"]).strip("() \t\n").split(",")
            yield found["module"], [name.split()[0] for name in names if name.strip()]


def tree() -> list[Path]:
    """The files of the tree, those not committed yet included, those ignored not."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout: which files belong to the tree is not known")
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


def text_of(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


def test_every_part_has_its_place_in_the_law() -> None:
    assert {part_of(module) for module in MODULES} <= LEVELS.keys()


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_run_one_way(path: Path) -> None:
    here = path.relative_to(PACKAGE).parts[0].partition(".")[0].replace("__init__", "")
    wrong = []
    for module, name in imports(path):
        there = part_of(module)
        lower = LEVELS[there] < LEVELS[here]
        if not (there == here or lower or (here, there) in TOGETHER):
            wrong.append(f"{module} {name}".strip())
        if here in OUTSIDERS and there != here and (there in PRIVATE or name.startswith("_")):
            wrong.append(f"{module} {name} is not public".replace("  ", " "))
    assert not wrong, f"{relative(path)} may not import {', '.join(wrong)}"


@pytest.mark.parametrize("leaf", LAYERS[0])
def test_leaves_import_nothing_of_ours(leaf: str) -> None:
    path = PACKAGE / f"{leaf}.py"
    if not path.exists():
        pytest.skip(f"{leaf} is not written yet")
    assert list(imports(path)) == []


def test_the_law_sees_every_way_to_import(tmp_path: Path) -> None:
    cython = tmp_path / "some.pyx"
    cython.write_text(
        "cimport cython\n"
        "from neverblock.engine cimport flow, outgoing  # both\n"
        "from neverblock.engine.ready cimport (\n    Handle,  # a comment\n    Ready as R,\n)\n"
        "    import neverblock.errors, neverblock.loop as other\n"
    )
    assert list(cython_imports(cython)) == [
        ("cython", []),
        ("neverblock.engine", ["flow", "outgoing"]),
        ("neverblock.engine.ready", ["Handle", "Ready"]),
        ("neverblock.errors", []),
        ("neverblock.loop", []),
    ]


def test_no_file_is_over_900_lines() -> None:
    suffixes = {".py", ".pyi", ".pyx", ".pxd", ".h", ".c"}
    long = {
        relative(path): lines
        for path in tree()
        if path.suffix in suffixes and (lines := text_of(path).count("\n")) > 900
    }
    assert not long


def test_every_compiled_module_has_a_stub() -> None:
    missing = [
        relative(path) for path in PACKAGE.rglob("*.pyx") if not path.with_suffix(".pyi").exists()
    ]
    assert not missing


def test_every_backend_is_a_file_and_a_line_in_the_registry() -> None:
    files = {path.stem for path in (PACKAGE / "multiplexers").glob("*.pyx")} - {"base"}
    assert set(multiplexers.REGISTRY) == files


def test_the_tests_run_on_every_backend_there_is() -> None:
    from tests.conftest import backends

    usable = [name for name, obstacle in multiplexers.available().items() if obstacle is None]
    assert backends() == usable
    assert set(usable) <= set(multiplexers.REGISTRY)
    assert {"poll", "select"} <= set(usable)


def test_no_path_of_one_machine_is_in_the_tree() -> None:
    home = "root|work|home/[a-z]+|Users/[A-Za-z]+"
    machine = re.compile(rf"(?<![\w.~-])/(?:{home})/[\w.]|/tmp/[a-z]{{2}}/")
    found = [
        f"{relative(path)}: {line.strip()}"
        for path in tree()
        for line in text_of(path).splitlines()
        if machine.search(line)
    ]
    assert not found


def test_lock_files_name_no_index() -> None:
    locks = list((ROOT / "requirements").glob("*.txt"))
    assert locks
    for lock in locks:
        assert "://" not in lock.read_text(), relative(lock)
        assert "--hash=sha256:" in lock.read_text(), relative(lock)


def test_the_meson_file_names_every_package() -> None:
    """Or the bytecode that stands in the others would be installed."""
    packages = {
        str(path.parent.relative_to(PACKAGE)) for path in PACKAGE.rglob("*/__init__.py")
    } - {"."}
    [listed] = re.findall(r"^packages = (\[.*\])$", text_of(PACKAGE / "meson.build"), re.MULTILINE)
    assert set(ast.literal_eval(listed)) == packages
