"""The options that say where the watch tells of stalls: the same for ``run`` and ``serve``."""

from typing import Any, Final

import click

from neverblock.cli.refusal import Refusal
from neverblock.errors import SettingsError
from neverblock.servers.outputs import outputs
from neverblock.watch import Output

OUTPUTS: Final[dict[str, dict[str, Any]]] = {
    "--stall-log": {
        "metavar": "FILE",
        "help": "Append a JSON object to this file when a stall begins, and one when it is over.",
    },
    "--stall-profile": {
        "metavar": "FILE",
        "help": "Write the stacks of stalls to this file when it ends, folded: flamegraph.pl and "
        "speedscope read it.",
    },
    "--stall-annotations": {
        "is_flag": True,
        "help": "Print GitHub annotations (::warning …) for the lines that blocked, when it ends.",
    },
    "--metrics-file": {
        "metavar": "FILE.prom",
        "help": "Write metrics to this file every few seconds, in Prometheus' text format, for "
        "node_exporter's textfile collector.",
    },
}


def output_options(command: click.decorators.FC) -> click.decorators.FC:
    for name, attributes in reversed(OUTPUTS.items()):
        command = click.option(name, **attributes)(command)
    return command


def chosen(threshold: float, turn_threshold: float | None = None, **options: Any) -> list[Output]:
    """What these options of ``run`` make. Raises Refusal, also where nobody watches."""
    for name, value in {"turn_threshold": turn_threshold, **options}.items():
        if value and not threshold:
            raise Refusal(f"{spelled(name)}: nobody watches; leave out --stall-threshold off")
    try:
        return outputs(**options)
    except SettingsError as error:
        raise Refusal(f"{spelled(error.name)}: {error.reason}") from None


def spelled(name: str) -> str:
    return f"--{name.replace('_', '-')}"
