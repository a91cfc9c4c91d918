"""The options of ``neverblock serve``: one for every field of Settings, in groups.

Each has the name and the default of its field, and help that says what it does where.
"""

import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import click

from neverblock.cli.config import source
from neverblock.cli.outputs import OUTPUTS
from neverblock.cli.refusal import Refusal
from neverblock.cli.values import Limit, Mode, Size, Threshold, Workers
from neverblock.errors import SettingsError
from neverblock.servers.settings import MODELS, Settings
from neverblock.watch import Watch

Command = TypeVar("Command", bound=Callable[..., object])

DEFAULTS = Settings()

COUNT = click.IntRange(min=1)
SECONDS = click.FloatRange(min=0)
TIMEOUT = click.FloatRange(min=0, min_open=True)


class GroupedOption(click.Option):
    """An option that stands under a heading in the help."""

    def __init__(self, *arguments: Any, group: str = "", **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help shows its options under their headings."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context)
            if record is not None and isinstance(parameter, click.Option):
                heading = getattr(parameter, "group", "") or "Other options"
                groups.setdefault(heading, []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def grouped(heading: str, *options: Callable[[str], Callable[[Any], Any]]) -> Any:
    """Several options under a heading."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(heading)(command)
        return command

    return decorate


def option(*names: str, **attributes: Any) -> Callable[[str], Callable[[Any], Any]]:
    """An option, once its heading is known; its default is that of its setting."""
    field = names[0].partition("/")[0].lstrip("-").replace("-", "_")
    default = getattr(DEFAULTS, field, None)
    if default is not None and default != () and not attributes.get("multiple"):
        attributes.setdefault("default", default)
        attributes.setdefault("show_default", True)
    return lambda heading: click.option(*names, cls=GroupedOption, group=heading, **attributes)


HOW = grouped(
    "Who serves",
    option(
        "--model",
        type=click.Choice(MODELS),
        help="One event loop for all; one client after the other; a process for each; a thread "
        "for each; a pool of threads.",
    ),
    option(
        "--workers",
        type=Workers(),
        metavar="N|auto",
        help="Processes with a loop each, which share the binds and are started again when they "
        "die; auto: one for each CPU. 0: serve in this process. For the loop model.",
    ),
    option(
        "--pool-size",
        type=COUNT,
        metavar="N",
        help="Threads of the pool model, and of --offload.",
    ),
    option(
        "--offload",
        is_flag=True,
        help="Let the loop model take a plain `def handle(stream)` too, which runs in a pool of "
        "threads.",
    ),
    option(
        "--stack-size",
        type=Size(),
        metavar="BYTES",
        help="Stack of each thread (256K, 1M); smaller ones leave room for more threads. Default: "
        "the system's. For the models thread and pool.",
    ),
)

LIMITS = grouped(
    "Limits",
    option(
        "--max-connections",
        type=COUNT,
        metavar="N",
        help="Connections accepted at once; what is over waits in the kernel. Default: 1024 for "
        "the models process and thread, twice the pool's size for pool, no bound for loop.",
    ),
    option(
        "--idle-timeout",
        type=TIMEOUT,
        metavar="SECONDS",
        help="End a connection whose peer keeps its handler waiting for so long. Default: never.",
    ),
    option(
        "--handler-timeout",
        type=TIMEOUT,
        metavar="SECONDS",
        help="End a connection whose handler takes longer in all. Default: never.",
    ),
    option(
        "--drain-timeout",
        type=SECONDS,
        metavar="SECONDS",
        help="After SIGTERM or SIGINT open connections may finish within this time; what is left "
        "is then reset. A second signal resets at once.",
    ),
)

WATCH = grouped(
    "Watch",
    option(
        "--stall-threshold",
        type=Threshold(),
        default=Watch.threshold,
        metavar="SECONDS|off",
        help="Tell which line blocks the loop when a callback takes longer. off, or 0: do not "
        "watch. For the loop model.",
    ),
    option(
        "--turn-threshold",
        type=Limit(),
        metavar="SECONDS",
        help="Tell which callbacks take the time when those of one turn take longer together. "
        "Default: as --stall-threshold. For the loop model.",
    ),
    *(option(name, **attributes) for name, attributes in OUTPUTS.items()),
    option(
        "--on-stall",
        type=click.Choice(["log", "shed"]),
        help="What happens when the loop stalls again and again. log: it is told; shed: nothing is "
        "accepted either until it has recovered. For the loop model.",
    ),
    option(
        "--strict",
        is_flag=True,
        help="Let known blocking calls in the loop's thread raise BlockingCallError. For the loop "
        "model.",
    ),
)

SOCKETS = grouped(
    "Sockets",
    option(
        "--backlog",
        type=COUNT,
        metavar="N",
        help="Connections that may wait in the kernel until they are accepted; it allows "
        "net.core.somaxconn at most.",
    ),
    option(
        "--unix-mode",
        type=Mode(),
        metavar="MODE",
        help="Permissions of Unix sockets, in octal: who may write may connect. Default: what the "
        "umask leaves.",
    ),
    option(
        "--nodelay/--no-nodelay",
        help="Send what is small at once (TCP_NODELAY), or let the kernel gather it.",
    ),
    option(
        "--keepalive",
        type=SECONDS,
        metavar="SECONDS",
        help="Silence after which TCP asks whether the peer is still there; it is given up after "
        "as much time again, 5 minutes at most. 0: never.",
    ),
)

TLS = grouped(
    "TLS",
    option(
        "--certfile",
        metavar="FILE",
        help="Speak TLS on every bind, with this certificate and its chain (PEM).",
    ),
    option(
        "--keyfile",
        metavar="FILE",
        help="The certificate's private key (PEM). Default: it is in --certfile.",
    ),
    option(
        "--client-ca",
        metavar="FILE",
        help="Demand a certificate of every client, signed by one of these authorities (PEM).",
    ),
    option(
        "--alpn",
        multiple=True,
        metavar="NAME",
        help="Protocol to agree on (RFC 7301), like h2. Repeatable, the preferred first.",
    ),
)


def settings_options(command: Command) -> Command:
    """An option for every field of Settings."""
    for group in (TLS, SOCKETS, WATCH, LIMITS, HOW):
        command = group(command)
    return command


def settings(context: click.Context, options: dict[str, Any]) -> Settings:
    """The settings that the options make. Raises Refusal, in the command line's words."""
    try:
        return Settings(**options)
    except SettingsError as error:
        raise refusal(context, error) from None


def refusal(context: click.Context, error: SettingsError) -> Refusal:
    """The refusal for a setting, under the name that it was given by."""
    file = source(context, error.name)
    where, mark = (f"{file}: ", "") if file else ("", "--")
    # Other settings are named as options too; those that are common words stay words.
    names = [field.name for field in fields(Settings) if re.search("_|file$", field.name)]
    reason = re.sub(
        rf"\b({'|'.join(names)})\b",
        lambda found: mark + found[0].replace("_", "-"),
        error.reason,
    )
    return Refusal(f"{where}{mark}{error.name.replace('_', '-')}: {reason}")
