"""How to serve: every option of a server, its default, and what may not be asked for.

The names are those of the options of ``neverblock serve`` and of the keys of its ``--config``.
"""

import os
import stat
import sys
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Final, TypedDict

from neverblock import Guard, Watch
from neverblock.errors import SettingsError
from neverblock.servers.outputs import outputs

#: Every way to serve, by name.
MODELS: Final = ("loop", "iterative", "process", "thread", "pool")

#: Connections that the process and the thread model serve at once, if not told otherwise.
MAX_CONNECTIONS: Final = 1024

#: The longest silence that the kernel can be told of (tcp(7): TCP_KEEPIDLE), seconds.
LONGEST_KEEPALIVE: Final = 32767

#: Threads of a pool, if not told otherwise.
POOL_SIZE: Final = 64

#: The smallest stack that a thread can have (threading.stack_size), bytes.
SMALLEST_STACK: Final = 32 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of a server. Raises SettingsError, with the cure, for what cannot be had."""

    model: str = "loop"
    """Who serves: one of MODELS."""
    workers: int = 0
    """Processes with a loop each (loop model); 0: serve in this one."""
    pool_size: int = POOL_SIZE
    """Threads of the pool model, and of the loop model with ``offload``."""
    max_connections: int | None = None
    """Connections accepted at once; what is over waits in the kernel's listen queue. None: 1024
    under process and thread, twice ``pool_size`` under pool, no bound under loop."""
    stack_size: int | None = None
    """Bytes of each thread's stack (thread and pool); None: the system's default."""
    offload: bool = False
    """Run a plain ``def handle(stream)`` under the loop model, in a pool of threads."""
    backlog: int = 1024
    """Connections that may wait in the kernel until they are accepted (listen(2))."""
    unix_mode: int | None = None
    """Permissions of Unix socket files, like 0o660; None: what the umask leaves."""
    nodelay: bool = True
    """Send small segments at once (TCP_NODELAY, tcp(7))."""
    keepalive: float = 60.0
    """Seconds of silence after which TCP asks whether the peer is still there; 0: never."""
    certfile: str | None = None
    """TLS on every bind, with this certificate chain (PEM)."""
    keyfile: str | None = None
    """The certificate's private key (PEM); None: it is in ``certfile``."""
    client_ca: str | None = None
    """Demand a certificate of every client, signed by one of these authorities (PEM)."""
    alpn: tuple[str, ...] = ()
    """Protocols to agree on, the preferred first (RFC 7301)."""
    idle_timeout: float | None = None
    """Seconds that a peer may keep its handler waiting; None: for ever."""
    handler_timeout: float | None = None
    """Seconds that a handler may take for one connection, from its beginning until all is sent;
    under the process model also the TLS handshake's. None: for ever."""
    drain_timeout: float = 10.0
    """Seconds that open connections have to finish after SIGTERM or SIGINT."""
    stall_threshold: float = 0.0
    """Seconds that a callback of the loop model may block the loop before it is told which line
    does; 0: nobody watches. For the loops that the server makes itself."""
    on_stall: str = "log"
    """What happens when the loop stalls again and again: "log", it is told; "shed", nothing is
    accepted either until it has recovered. For the loops that the server makes itself."""
    turn_threshold: float | None = None
    """Seconds that the callbacks of one turn of the loop may take together before it is told which
    they are; None: as ``stall_threshold``. It needs that one."""
    stall_log: str | None = None
    """Append a JSON object to this file when a stall begins, and one when it is over."""
    stall_profile: str | None = None
    """Write the stacks of stalls to this file, folded, as flame graph tools read them. With
    workers each has a file of its own, with its process id before the suffix."""
    stall_annotations: bool = False
    """Print a GitHub annotation for each line that blocked."""
    metrics_file: str | None = None
    """Write metrics to this file every few seconds, in Prometheus' text format. With workers each
    has a file of its own."""
    log_format: str = "text"
    """How stalls are written to standard error where the GIL is held, so that no logging can be
    done: "text", lines for people; "json", an object on each."""
    strict: bool = False
    """Let known blocking calls in the thread of the loop model raise BlockingCallError. For the
    loops that the server makes itself."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def bound(self) -> int | None:
        """Connections that the model accepts at once; None: as many as the system allows."""
        match self.model:
            case "iterative":
                return 1
            case "pool":
                return self.max_connections or 2 * self.pool_size
            case "process" | "thread":
                return self.max_connections or MAX_CONNECTIONS
        return self.max_connections

    @property
    def watch(self) -> Watch | Guard | None:
        """What watches the loop that runs the handlers; None: nobody.

        Raises SettingsError for a file that cannot be written.
        """
        if self.model != "loop" or not self.stall_threshold or sys.platform != "linux":
            return Guard() if self.strict else None
        return Watch(
            threshold=self.stall_threshold,
            turn_threshold=self.turn_threshold,
            outputs=outputs(
                stall_log=self.stall_log,
                stall_profile=self.stall_profile,
                stall_annotations=self.stall_annotations,
                metrics_file=self.metrics_file,
                several=self.workers > 0,
            ),
            on_stall="shed" if self.on_stall == "shed" else "log",
            log_format="json" if self.log_format == "json" else "text",
            strict=self.strict,
        )


class Options(TypedDict, total=False):
    """The same as keyword arguments."""

    model: str
    workers: int
    pool_size: int
    max_connections: int | None
    stack_size: int | None
    offload: bool
    backlog: int
    unix_mode: int | None
    nodelay: bool
    keepalive: float
    certfile: str | None
    keyfile: str | None
    client_ca: str | None
    alpn: tuple[str, ...]
    idle_timeout: float | None
    handler_timeout: float | None
    drain_timeout: float
    stall_threshold: float
    on_stall: str
    turn_threshold: float | None
    stall_log: str | None
    stall_profile: str | None
    stall_annotations: bool
    metrics_file: str | None
    log_format: str
    strict: bool


#: Which models a setting is for, and what the others would do with it.
ONLY_FOR: Final = {
    "workers": ("loop",),
    "offload": ("loop",),
    "pool_size": ("pool", "loop"),
    "max_connections": ("loop", "process", "thread", "pool"),
    "stack_size": ("thread", "pool"),
    "strict": ("loop",),
    "on_stall": ("loop",),
    "turn_threshold": ("loop",),
    "stall_log": ("loop",),
    "stall_profile": ("loop",),
    "stall_annotations": ("loop",),
    "metrics_file": ("loop",),
}


#: What is for loops that the server makes itself: another has its watch already, or has none.
WATCH: Final = (
    "stall_threshold",
    "turn_threshold",
    "on_stall",
    "stall_log",
    "stall_profile",
    "stall_annotations",
    "metrics_file",
    "strict",
)

#: Settings that are numbers, and what one looks like.
NUMBERS: Final = {
    "workers": "4",
    "pool_size": "64",
    "max_connections": "1000",
    "stack_size": "256 * 1024",
    "backlog": "1024",
    "unix_mode": "0o660",
}

SECONDS: Final = (
    "keepalive",
    "drain_timeout",
    "idle_timeout",
    "handler_timeout",
    "stall_threshold",
    "turn_threshold",
)


def check(settings: Settings) -> None:
    """Raises SettingsError for what the model cannot have, or nobody can."""
    model = settings.model
    if model not in MODELS:
        raise SettingsError("model", f"there is no {model!r}; choose one of {', '.join(MODELS)}")
    check_kinds(settings)
    for each in fields(settings):
        models = ONLY_FOR.get(each.name, MODELS)
        if getattr(settings, each.name) != each.default and model not in models:
            raise SettingsError(
                each.name,
                f"the {model} model has no use for it; leave it out, or choose the model "
                f"{' or '.join(models)}",
            )
    if model == "loop" and not settings.offload and settings.pool_size != POOL_SIZE:
        raise SettingsError("pool_size", "the loop model has a pool only with offload; add that")
    check_counts(settings)
    for name in SECONDS:
        seconds = getattr(settings, name)
        if seconds is not None and not 0 <= seconds < float("inf"):
            raise SettingsError(name, f"must be 0 or more seconds, not {seconds}")
    if settings.keepalive > LONGEST_KEEPALIVE:
        raise SettingsError(
            "keepalive", f"must be {LONGEST_KEEPALIVE} seconds at most, not {settings.keepalive:g}"
        )
    if 0 < settings.stall_threshold < 0.001:
        raise SettingsError("stall_threshold", "below 0.001 seconds every callback is a stall")
    if settings.turn_threshold is not None and settings.turn_threshold < 0.001:
        raise SettingsError("turn_threshold", "below 0.001 seconds every turn is too long")
    if not settings.stall_threshold:
        for name in (
            "turn_threshold",
            "stall_log",
            "stall_profile",
            "stall_annotations",
            "metrics_file",
        ):
            if getattr(settings, name):
                raise SettingsError(name, "nobody watches; give a stall_threshold, such as 0.1")
    for name in ("idle_timeout", "handler_timeout"):
        if getattr(settings, name) == 0:
            raise SettingsError(name, "0 seconds would end every connection; leave it out for none")
    if settings.on_stall not in ("log", "shed"):
        raise SettingsError("on_stall", f'must be "log" or "shed", not {settings.on_stall!r}')
    if settings.log_format not in ("text", "json"):
        raise SettingsError("log_format", f'must be "text" or "json", not {settings.log_format!r}')
    if settings.on_stall == "shed" and not settings.stall_threshold:
        raise SettingsError("on_stall", "nobody watches; give a stall_threshold, such as 0.1")
    if settings.unix_mode is not None and stat.S_IMODE(settings.unix_mode) != settings.unix_mode:
        raise SettingsError("unix_mode", f"{settings.unix_mode:o} is no mode; write one like 0o660")
    if settings.certfile is None:
        for name in ("keyfile", "client_ca", "alpn"):
            if getattr(settings, name):
                raise SettingsError(name, "it is for TLS, which needs a certfile; name one")


def check_kinds(settings: Settings) -> None:
    """Raises SettingsError for what would be a TypeError somewhere else."""
    for each in fields(settings):
        value = getattr(settings, each.name)
        if value is None and each.default is None:
            continue
        if each.name in NUMBERS and not isinstance(value, Integral):
            example = NUMBERS[each.name]
            raise SettingsError(each.name, f"must be a whole number, like {example}, not {value!r}")
        if each.name in SECONDS and not isinstance(value, Real):
            raise SettingsError(each.name, f"must be a number of seconds, not {value!r}")
    if isinstance(settings.alpn, str):  # Each of its characters would be a protocol.
        raise SettingsError("alpn", f"must be a tuple, like ({settings.alpn!r},)")


def check_counts(settings: Settings) -> None:
    for name, least in (("workers", 0), ("pool_size", 1), ("backlog", 1)):
        count = getattr(settings, name)
        if count < least:
            raise SettingsError(name, f"must be at least {least}, not {count}")
    bound, pool_size = settings.max_connections, settings.pool_size
    if bound is not None:
        if bound < 1:
            raise SettingsError("max_connections", f"must be at least 1, not {bound}")
        if settings.model == "pool" and bound < pool_size:
            raise SettingsError(
                "max_connections",
                f"{bound} would leave some of the {pool_size} threads of the pool without work; "
                f"make pool_size {bound} at most",
            )
        if settings.workers > bound:
            raise SettingsError(
                "max_connections",
                f"{bound} would leave some of the {settings.workers} workers without work; make "
                f"workers {bound} at most",
            )
    stack = settings.stack_size
    if stack is not None and (stack < SMALLEST_STACK or stack % 4096):
        raise SettingsError(
            "stack_size", f"must be a multiple of 4096 and at least {SMALLEST_STACK}, not {stack}"
        )


def workers_for_this_machine() -> int:
    """A worker for each CPU that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
