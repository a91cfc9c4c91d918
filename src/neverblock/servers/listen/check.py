"""Whether listening somewhere looks possible, without taking the place or troubling who has it.

That a server listens there already is no obstacle: it may be the one to be replaced.
"""

import errno
import os
import socket
from pathlib import Path

from neverblock.errors import BindError
from neverblock.servers.listen.activation import expand, passed, take_over
from neverblock.servers.listen.bind import Bind
from neverblock.servers.listen.open import explanation
from neverblock.servers.listen.tcp import ABSENT, addresses
from neverblock.servers.listen.unix import check_length, holds_socket

#: The first port that needs no privilege, and the bit of the privilege (ip(7), capabilities(7)).
UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
CAP_NET_BIND_SERVICE = 10


def check(url: str) -> bool:
    """Raises BindError as ``listen`` would, as far as can be seen beforehand.

    False: nothing can be seen, for it is a socket that another process will be given. systemd gives
    sockets to what ExecStart= starts, not to what ExecStartPre= does.
    """
    bind = Bind.parse(url)
    try:
        match bind.scheme:
            case "unix":
                check_unix(bind)
            case "fd":
                if not passed():
                    return False
                for each in expand([url]):
                    take_over(Bind.parse(each)).detach()
            case _:
                check_tcp(bind)
    except BindError:
        raise
    except OSError as error:
        raise BindError(url, explanation(bind, error), error.errno) from None
    return True


def check_unix(bind: Bind) -> None:
    check_length(bind)
    holds_socket(bind)
    directory = os.path.dirname(bind.path)
    os.stat(os.path.join(directory, "."))  # Raises for what is no directory, too.
    needed = os.R_OK | os.W_OK | os.X_OK  # To read it is to lock it.
    effective = os.access in os.supports_effective_ids
    if not os.access(directory, needed, effective_ids=effective):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def check_tcp(bind: Bind) -> None:
    if 0 < bind.port < first_unprivileged_port() and not may_bind_any_port():
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    found = addresses(bind)
    missing: list[OSError] = []
    for family, address in found:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind(address)  # Any free port: whether the address is this machine's.
        except OSError as error:
            if error.errno not in ABSENT:
                raise
            missing.append(error)
    if len(missing) == len(found):
        raise missing[0]


def first_unprivileged_port() -> int:
    try:
        return int(UNPRIVILEGED.read_text())
    except (OSError, ValueError):
        return 1024


def may_bind_any_port() -> bool:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return os.geteuid() == 0
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> CAP_NET_BIND_SERVICE & 1)
