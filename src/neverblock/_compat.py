"""Every difference between Python versions that the loop has to know."""

import sys
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
