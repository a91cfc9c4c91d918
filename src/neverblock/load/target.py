"""Whom to load, as a URL. Parsing looks at the words alone.

A password stays out of all that is told: out of errors, and of what a target looks like in a log.
"""

import os
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote, unquote_to_bytes, urlsplit

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
    user: bytes = b""
    """Who asks a Redis server; nothing: whom it calls the default user."""
    password: bytes | None = field(default=None, repr=False)
    """What a Redis server wants to hear first; None: nothing."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """From ``tcp://[::1]:7000``, ``unix:///app.sock``, ``redis://user:password@host`` …

        Raises PlanError.
        """
        told = masked(url)
        scheme, separator, rest = url.partition("://")
        scheme = scheme.lower()
        if not separator or scheme not in SCHEMES:
            raise PlanError("target", f"{told!r} is no URL of {LISTED}")
        if any(ord(letter) < 33 or ord(letter) == 127 for letter in url):
            raise PlanError("target", f"{told!r} has a space or a control character in it")
        if scheme == "unix":
            if not rest.startswith("/") or rest.endswith("/"):
                raise PlanError("target", f"{url}: write a path, like unix:///run/app.sock")
            return cls(scheme, path=unquote(rest))
        protocol, _, default = SCHEMES[scheme]
        user = b""
        password: bytes | None = None
        if protocol == "redis" and "@" in rest:
            login, _, rest = rest.rpartition("@")
            user, password = credentials(login, told)
        try:
            parts = urlsplit(f"{scheme}://{rest}")
            host, port = parts.hostname, parts.port
        except ValueError as error:
            reason = f"{error}" if told == url else "no host and port"
            raise PlanError("target", f"{told}: {reason}; write {scheme}://HOST:PORT") from None
        if parts.username is not None:
            raise PlanError("target", f"{told}: users and passwords are not sent; leave them out")
        if not host:
            raise PlanError("target", f"{told}: no host; write {scheme}://HOST:PORT")
        port = default if port is None else port
        if not port:
            raise PlanError("target", f"{told}: no port; write {scheme}://{bracketed(host)}:PORT")
        path = ""
        if protocol == "http":
            if not url.isascii():
                raise PlanError("target", f"{told}: write what is not ASCII with percent signs")
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        elif parts.path.strip("/") or parts.query or parts.fragment:
            raise PlanError("target", f"{told}: only a host and a port; write {scheme}://HOST:PORT")
        return cls(scheme, host, port, path, user, password)

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


def credentials(login: str, told: str) -> tuple[bytes, bytes]:
    """The user and the password of what stands before the @. Raises PlanError."""
    user, colon, password = login.partition(":")
    if not colon or not (user or password):
        raise PlanError(
            "target",
            f"{told}: no password; write redis://:PASSWORD@HOST:PORT, or "
            "redis://USER:PASSWORD@HOST:PORT",
        )
    # As it was typed, also where that is no text.
    return unquote_to_bytes(os.fsencode(user)), unquote_to_bytes(os.fsencode(password))


def masked(url: str) -> str:
    """A URL, right or wrong, without what may be a password."""
    login, at, place = url.rpartition("@")
    if not at:
        return url
    scheme, separator, user = login.partition("://")
    if not separator:
        scheme, user = "", login
    name, colon, _ = user.partition(":")
    return f"{scheme}{separator}{name if colon else ''}{colon}***@{place}"


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
