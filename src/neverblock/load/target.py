"""Whom to load, as a URL. Parsing looks at the words alone."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote, urlsplit

from neverblock.errors import PlanError

#: By scheme: the protocol that is spoken, whether over TLS, and the port where none is named.
SCHEMES: dict[str, tuple[str, bool, int | None]] = {
    "tcp": ("echo", False, None),
    "tls": ("echo", True, None),
    "unix": ("echo", False, None),
    "redis": ("redis", False, 6379),
    "rediss": ("redis", True, 6379),
    "http": ("http", False, 80),
    "https": ("http", True, 443),
}
LISTED = ", ".join(f"{scheme}://" for scheme in SCHEMES)


@dataclass(frozen=True)
class Target:
    """A server, and what to speak with it."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    """Of a Unix socket; or of a page, with its query."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """From ``tcp://127.0.0.1:7000``, ``unix:///run/app.sock``, ``http://host/page?query``.

        Raises PlanError.
        """
        scheme, separator, rest = url.partition("://")
        scheme = scheme.lower()
        if not separator or scheme not in SCHEMES:
            raise PlanError("target", f"{url!r} is no URL of {LISTED}")
        if any(ord(letter) < 33 or ord(letter) == 127 for letter in url):
            raise PlanError("target", f"{url!r} has a space or a control character in it")
        if scheme == "unix":
            if not rest.startswith("/") or rest.endswith("/"):
                raise PlanError("target", f"{url}: write a path, like unix:///run/app.sock")
            return cls(scheme, path=unquote(rest))
        protocol, _, default = SCHEMES[scheme]
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise PlanError("target", f"{url}: {error}; write {scheme}://HOST:PORT") from None
        if not host:
            raise PlanError("target", f"{url}: no host; write {scheme}://HOST:PORT")
        if parts.username is not None:
            raise PlanError("target", f"{url}: users and passwords are not sent; leave them out")
        port = default if port is None else port
        if not port:
            raise PlanError("target", f"{url}: no port; write {scheme}://{bracketed(host)}:PORT")
        path = ""
        if protocol == "http":
            if not url.isascii():
                raise PlanError("target", f"{url}: write what is not ASCII with percent signs")
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        elif parts.path.strip("/") or parts.query or parts.fragment:
            raise PlanError("target", f"{url}: only a host and a port; write {scheme}://HOST:PORT")
        return cls(scheme, host, port, path)

    @property
    def protocol(self) -> str:
        """``"echo"``, ``"redis"`` or ``"http"``."""
        return SCHEMES[self.scheme][0]

    @property
    def secure(self) -> bool:
        """Whether it is spoken over TLS."""
        return SCHEMES[self.scheme][1]

    @property
    def authority(self) -> str:
        """The host and the port, as HTTP's Host header has them (RFC 9110, 7.2)."""
        host = bracketed(self.host)
        return host if self.port == SCHEMES[self.scheme][2] else f"{host}:{self.port}"


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
