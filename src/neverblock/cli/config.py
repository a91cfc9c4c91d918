"""``--config FILE.toml``: the options of a command, under the same names.

What the command line says wins. Paths in the file are relative to the file, wherever the command
is started; everything is checked as it is read, so that a refusal can name the file.
"""

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any

import click

from neverblock.cli.refusal import Refusal

#: Options whose value is a file; a handler's is one as far as the colon.
PATHS = {"certfile", "keyfile", "client-ca", "stall-log", "stall-profile", "metrics-file"}

#: What cannot stand in a file: asked for each time, or about files themselves.
LEFT_OUT = {"config", "check", "help"}


def config_option(command: click.decorators.FC) -> click.decorators.FC:
    """``--config``, which gives the other parameters of the command their defaults."""
    return click.option(
        "--config",
        metavar="FILE.toml",
        is_eager=True,  # Before those that it gives defaults to.
        expose_value=False,
        callback=read,
        help="Take options from this file: the same names, with dashes or underscores, and "
        "handler and bind. What stands here on the command line wins. Paths in it are relative to "
        "the file.",
    )(command)


def read(context: click.Context, parameter: click.Parameter, file: str | None) -> str | None:
    """Make the file's values the defaults of the command's parameters. Raises Refusal."""
    if file is not None:
        context.default_map = values(context, file)
        context.meta[FILE] = file
    return file


#: Under which a context keeps the name of its file.
FILE = f"{__name__}.file"


def source(context: click.Context, parameter: str) -> str | None:
    """The file that a parameter's value is from; None: not from one."""
    if context.get_parameter_source(parameter) is click.core.ParameterSource.DEFAULT_MAP:
        return str(context.meta[FILE])
    return None


def values(context: click.Context, file: str) -> dict[str, Any]:
    """What the file says, by the names of the command's parameters. Raises Refusal."""
    known = parameters(context.command)
    found: dict[str, Any] = {}
    for key, value in load(file).items():
        name = key.replace("_", "-")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            cure = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise Refusal(f"{file}: no option {key}; {cure}")
        parameter = known[name]
        assert parameter.name is not None
        if parameter.name in found:
            raise Refusal(f"{file}: {name} is there twice, with a dash and with an underscore")
        checked = typed(f"{file}: {key}", parameter, value)
        found[parameter.name] = beside(file, name, checked)
        try:
            parameter.type_cast_value(context, found[parameter.name])
        except click.BadParameter as error:
            raise Refusal(f"{file}: {key}: {error.message}") from None
    return found


def load(file: str) -> dict[str, Any]:
    """A TOML file. Raises Refusal, with the line."""
    try:
        text = Path(file).read_text(encoding="utf-8")
        return tomllib.loads(text)
    except OSError as error:
        raise Refusal(f"{file}: {error.strerror}; name a file that can be read") from None
    except UnicodeDecodeError as error:
        raise Refusal(f"{file}: byte {error.start} is not UTF-8, as TOML has to be") from None
    except tomllib.TOMLDecodeError as error:
        reason, _, where = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", where)
        number = line[1] if line else str(text.count("\n") + 1)
        raise Refusal(f"{file}:{number}: {reason}; see https://toml.io") from None


def parameters(command: click.Command) -> dict[str, click.Parameter]:
    """What may stand in the file: an argument by its name, an option by its long form."""
    names = {
        next((each[2:] for each in parameter.opts if each.startswith("--")), parameter.opts[0]): (
            parameter
        )
        for parameter in command.params
    }
    return {name: parameter for name, parameter in names.items() if name not in LEFT_OUT}


def typed(where: str, parameter: click.Parameter, value: object) -> object:
    """The value, if it is of the kind that TOML should have for it. Raises Refusal."""
    if parameter.multiple:
        several = value if isinstance(value, list) else [value]
        if all(isinstance(each, str) for each in several):
            return several
        words = "a string, or a list of strings"
    else:
        kinds, words = kind(parameter)
        if isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool)):
            return value
    shown = f'"{value}"' if isinstance(value, str) else str(value).lower()
    raise Refusal(f"{where}: must be {words}, not {shown}")


def kind(parameter: click.Parameter) -> tuple[tuple[type, ...], str]:
    """The types that may stand for a parameter, and what they are called."""
    own: tuple[type, ...] | None = getattr(parameter.type, "accepts", None)
    if own is not None:
        return own, str(getattr(parameter.type, "words", ""))
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return (bool,), "true or false"
    if isinstance(parameter.type, click.types.IntParamType):
        return (int,), "a whole number"
    if isinstance(parameter.type, click.types.FloatParamType):
        return (int, float), "a number"
    return (str,), "a string"


def beside(file: str, name: str, value: Any) -> Any:
    """A path, from where the file is."""
    directory = Path(file).parent
    if name in PATHS:
        return str(directory / value)
    if name == "handler" and (path := value.rpartition(":")[0]).endswith(".py"):
        return f"{directory / path}:{value.rpartition(':')[2]}"
    return value
