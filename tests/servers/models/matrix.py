"""Every model, every kind of bind, and how a client speaks there."""

import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from neverblock.servers import MODELS
from tests.servers.serving import Process, served

#: The file with what is served.
APP = str(Path(__file__).with_name("handlers.py"))

#: Those where one connection need not wait for another.
SIDE_BY_SIDE = [model for model in MODELS if model != "iterative"]
#: Those whose handlers see one memory.
SHARING = ["loop", "thread", "pool"]
WITHOUT_LOOP = [model for model in MODELS if model != "loop"]


@dataclass(frozen=True)
class Bind:
    """Where a server listens in a test."""

    kind: str
    url: str
    options: tuple[str, ...] = ()
    """What the server must be told beside."""
    context: ssl.SSLContext | None = None
    """What a client needs to know for TLS; None: nothing."""
    cafile: str = ""
    """The same for other programs: whom to trust."""


#: Serves one of the handlers, with these options, under the test's model and on its bind.
Serve = Callable[..., AbstractContextManager[Process]]


def serving(bind: Bind, *under: str) -> Serve:
    """Serves on a bind, with the options that say under what."""

    def serve(
        handler: str, *options: str, python: tuple[str, ...] = ()
    ) -> AbstractContextManager[Process]:
        return served(
            handler if ":" in handler else f"{APP}:{handler}",
            *under,
            *bind.options,
            *options,
            binds=(bind.url,),
            python=python,
            context=bind.context,
        )

    return serve


def room(model: str, clients: int) -> tuple[str, ...]:
    """The options with which a model serves so many at once."""
    match model:
        case "pool":
            return "--pool-size", str(clients)
        case "process" | "thread":
            return "--max-connections", str(clients)
    return ()
