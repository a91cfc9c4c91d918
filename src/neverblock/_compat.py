"""Every difference between Python versions that the loop has to know."""

import sys
from contextvars import Context
from typing import Any

if sys.version_info >= (3, 13):

    def attach_to_server(server: Any, transport: Any) -> None:
        server._attach(transport)

    def detach_from_server(server: Any, transport: Any) -> None:
        server._detach(transport)

else:

    def attach_to_server(server: Any, transport: Any) -> None:
        server._attach()

    def detach_from_server(server: Any, transport: Any) -> None:
        server._detach()


def serving_context(context: Context | None) -> tuple[Any, ...]:
    """The last arguments of what accepts for a server: from 3.15 on it has a context."""
    return (context,) if sys.version_info >= (3, 15) else ()
