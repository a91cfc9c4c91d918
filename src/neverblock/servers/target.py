"""Finding a handler by its name: ``file.py:name`` or ``module:name``."""

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from neverblock.errors import HandlerError
from neverblock.servers.handler import AnyHandler, check
from neverblock.servers.settings import Settings


def load(target: str, settings: Settings) -> AnyHandler:
    """Import what ``target`` names, as Python would: beside a file, or from here for a module.

    It must be able to run under ``settings``. Raises HandlerError.
    """
    where, _, name = target.rpartition(":")
    if not where or not name:
        raise HandlerError(
            f'"{target}" names no handler; write FILE.py:NAME or MODULE:NAME, like app.py:handle'
        )
    module = load_file(where) if where.endswith(".py") else load_module(where)
    handler: object = module
    for part in name.split("."):
        try:
            handler = getattr(handler, part)
        except AttributeError:
            raise HandlerError(f"{where} has no {name}; {suggestion(module, settings)}") from None
    return check(handler, target, settings)


def load_file(path: str) -> ModuleType:
    file = Path(path)
    if not file.is_file():
        raise HandlerError(f"no file {path}; the working directory is {Path.cwd()}")
    sys.path.insert(0, str(file.resolve().parent))
    # Under its own name, unless that is taken: a file called json.py must not replace json.
    name = file.stem if file.stem not in sys.modules else f"handler_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise HandlerError(import_failure(path, f"python {path}", error)) from error
    return module


def load_module(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise HandlerError(import_failure(name, f"python -m {name}", error)) from error
        raise HandlerError(
            f"no module {error.name}; start where it can be imported, or name a file that ends "
            f"in .py"
        ) from None
    except (Exception, SystemExit) as error:
        raise HandlerError(import_failure(name, f"python -m {name}", error)) from error


def import_failure(what: str, command: str, error: BaseException) -> str:
    """One line on a module that raises when it is imported."""
    where = what
    if isinstance(error, SyntaxError) and error.lineno is not None:
        where = f"{error.filename}:{error.lineno}"
    elif frames := traceback.extract_tb(error.__traceback__):
        where = f"{frames[-1].filename}:{frames[-1].lineno}"
    reason = " ".join(traceback.format_exception_only(error)[-1].split())
    return f"importing {what} failed at {where}: {reason}; `{command}` shows all of it"


def suggestion(module: ModuleType, settings: Settings) -> str:
    """What a module offers instead."""
    names = [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and is_handler(value, settings)
    ]
    if names:
        return f"it has {', '.join(names)}"
    return "write `async def handle(stream)` in it"


def is_handler(value: object, settings: Settings) -> bool:
    try:
        check(value, "", settings)
    except HandlerError:
        return False
    return True
