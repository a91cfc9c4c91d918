"""Where to listen, as a URL: ``tcp://host:port``, ``unix:///path``, ``fd://3`` or ``fd://name``.

Parsing looks at the words alone: whether it can be had is found out by listening there.
"""

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from neverblock.errors import BindError

#: The host that stands for every address, IPv4 and IPv6.
EVERY = "*"


@dataclass(frozen=True)
class Bind:
    """Where to listen."""

    scheme: str
    """``"tcp"``, ``"unix"``, or ``"fd"`` for a socket that was opened before this process began."""
    host: str = ""
    """A name, an address, or ``"*"`` for every address of this machine."""
    port: int = 0
    path: str = ""
    descriptor: str = ""
    """The number or the name of a descriptor."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """From ``tcp://127.0.0.1:7000``, ``tcp://[::1]:7000``, ``unix:///run/app.sock``, ``fd://3``.

        Raises BindError.
        """
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in ("tcp", "unix", "fd"):
            raise BindError(url, "write tcp://HOST:PORT or unix:///PATH")
        if "\0" in url:
            raise BindError(url.replace("\0", "\\0"), "there is a zero byte in it; leave it out")
        if scheme == "unix":
            if not rest.startswith("/") or rest.endswith("/"):
                raise BindError(url, "write an absolute path, like unix:///run/app.sock")
            return cls(scheme, path=rest)
        if scheme == "fd":
            if not rest:
                raise BindError(url, "write the number or the name of a socket, like fd://3")
            return cls(scheme, descriptor=rest)
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise BindError(url, f"{error}; write tcp://HOST:PORT") from None
        if not host:
            raise BindError(url, "no host; write tcp://*:PORT for every address")
        if port is None:
            raise BindError(url, f"no port; write tcp://{bracketed(host)}:PORT, 0 for any free one")
        if parts.path or parts.query or parts.fragment or parts.username is not None:
            raise BindError(url, f"only a host and a port; write tcp://{bracketed(host)}:{port}")
        return cls(scheme, host=host, port=port)

    @property
    def url(self) -> str:
        match self.scheme:
            case "unix":
                return f"unix://{self.path}"
            case "fd":
                return f"fd://{self.descriptor}"
        return f"tcp://{bracketed(self.host)}:{self.port}"


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
