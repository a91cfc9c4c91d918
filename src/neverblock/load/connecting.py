"""Opening connections: where to, and from where.

- A socket that could not be connected is closed here; one that is returned is the caller's.
- A connection is four numbers, and one of them has about 28,000 values (ip(7),
  ip_local_port_range): more connections to one address need several to come from.
- All of 127.0.0.0/8 is this machine (RFC 6890), so there are enough of them for a loopback address;
  they are counted from 127.0.0.1, which is number 0.
"""

import asyncio
import ipaddress
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

from neverblock.errors import PlanError
from neverblock.load.plan import Plan
from neverblock.load.target import Target

PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: The share of the range that one source address is used for. Once half of it is taken, the kernel
#: looks at that half in vain for each connection, before it tries the other: 2 ms instead of 50 µs.
SHARE = 0.45
#: The kernel chooses the port when it knows where to, so it may choose one that is used for another
#: place (ip(7)); the socket module has no name for it before 3.12.
IP_BIND_ADDRESS_NO_PORT = 24
#: Seconds between two tries at a Unix socket whose queue is full, of which nobody tells.
AGAIN = 0.005


@dataclass(frozen=True)
class Place:
    """An address to connect to."""

    family: int
    address: "str | tuple[str, int] | tuple[str, int, int, int]"


async def places(target: Target, timeout: float) -> list[Place]:
    """Where a target is, the preferred first. Raises OSError, TimeoutError."""
    if target.scheme == "unix":
        return [Place(socket.AF_UNIX, target.path)]
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # A label that is empty or too long: nobody is asked (RFC 1035).
        raise socket.gaierror(socket.EAI_NONAME, f"this is no name of a host: {error}") from None
    return [Place(family, address) for family, _, _, _, address in found]  # type: ignore[arg-type]


async def connect(place: Place, source: str | None, timeout: float) -> socket.socket:
    """A socket that is connected there. Raises OSError, TimeoutError."""
    sock = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if place.family == socket.AF_UNIX:
            await connect_unix(sock, str(place.address), timeout)
            return sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source is not None:
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_connect(sock, place.address)
        return sock
    except BaseException:
        sock.close()
        raise


async def connect_unix(sock: socket.socket, path: str, timeout: float) -> None:
    """connect(2) to a Unix socket refuses while the queue is full, instead of waiting."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        try:
            return sock.connect(path)
        except BlockingIOError as error:
            if loop.time() >= deadline:
                message = f"the listen queue stayed full for {timeout:g} s"
                raise BlockingIOError(error.errno, message) from None
        await asyncio.sleep(AGAIN)


def sources(place: Place, connections: int, first: int = 0) -> list[str | None]:
    """Addresses to connect from, in turn; None: the one that the system chooses.

    ``first`` is the number of the first one: those before it are for others on this machine.
    """
    count = addresses_for(connections)
    if first + count == 1 or place.family != socket.AF_INET or sys.platform != "linux":
        return [None]
    if not ipaddress.ip_address(place.address[0]).is_loopback:
        return [None]
    start = ipaddress.ip_address("127.0.0.1") + first
    return [str(start + i) for i in range(count)]


def addresses_for(connections: int) -> int:
    """How many addresses so many connections to one place should come from."""
    return max(1, -(-connections // int(port_range() * SHARE)))


def port_range() -> int:
    """How many ports a source address has for connections."""
    try:
        low, high = map(int, PORTS.read_text().split())
    except (OSError, ValueError):
        return 16384  # RFC 6335: 49152 to 65535
    return high - low + 1


def context_of(plan: Plan) -> ssl.SSLContext | None:
    """What TLS needs to know; None: it is not spoken. Raises PlanError."""
    if not plan.parsed.secure:
        return None
    try:
        context = ssl.create_default_context(cafile=plan.ca)
    except OSError as error:  # SSLError is one
        reason = error.strerror or str(error)
        raise PlanError("ca", f"{plan.ca}: {reason}; name a file of certificates (PEM)") from None
    if plan.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
