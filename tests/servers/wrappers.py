"""What to put before a command: sockets to serve passed on to it, no IPv6, a network of its own."""

import shlex
import shutil
import subprocess
import sys
from functools import cache

import pytest

#: Does what systemd does for a service with sockets (sd_listen_fds(3)), then becomes the command.
#: The first argument: NAME=KIND=WHERE of each, apart by commas.
ACTIVATE = """
import os, socket, sys
kinds, command = sys.argv[1].split(","), sys.argv[2:]
made, names = [], []
for name, kind, where in (each.split("=") for each in kinds):
    names.append(name)
    match kind:
        case "tcp":
            sock = socket.create_server((where, 0))
        case "tcp6":
            sock = socket.create_server((where, 0), family=socket.AF_INET6)
        case "unix":
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(where)
            sock.listen()
        case "abstract":
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(b"\\0" + where.encode())
            sock.listen()
        case "udp":
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        case "deaf":
            sock = socket.socket(socket.AF_INET)
        case "file":
            sock = open(os.devnull)
    made.append(sock)
# Out of the way first: the numbers from 3 on may be theirs.
high = [os.dup(sock.fileno()) for sock in made]
high = [os.dup2(number, 100 + index) for index, number in enumerate(high)]
for index, number in enumerate(high):
    os.dup2(number, 3 + index, inheritable=True)
os.environ.update(
    LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)), LISTEN_FDNAMES=":".join(names)
)
os.execv(command[0], command)
"""

#: What RestrictAddressFamilies= of a systemd unit does: no socket of that family can be made.
WITHOUT_IPV6 = """
import ctypes, errno, os, platform, socket, struct, sys
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # bpf: ld [k], jeq #k, ret #k
ALLOW, ERRNO = 0x7fff0000, 0x00050000
NUMBER = {"x86_64": 41, "aarch64": 198}[platform.machine()]
program = b"".join(
    struct.pack("HBBI", *each)
    for each in (
        (LOAD, 0, 0, 0),
        (EQUAL, 0, 3, NUMBER),  # socket(2)
        (LOAD, 0, 0, 16),
        (EQUAL, 0, 1, socket.AF_INET6),
        (RETURN, 0, 0, ERRNO | errno.EAFNOSUPPORT),
        (RETURN, 0, 0, ALLOW),
    )
)
buffer = ctypes.create_string_buffer(program)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
filter = Program(len(program) // 8, ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
for arguments in (
    (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
    (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter), 0, 0),
):
    if libc.prctl(*arguments) != 0:
        sys.exit(f"cannot: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[1], sys.argv[1:])
"""


def activated(*sockets: str) -> tuple[str, ...]:
    """With these sockets passed on: ``NAME=KIND=WHERE``, like ``web=tcp=127.0.0.1``."""
    return sys.executable, "-c", ACTIVATE, ",".join(sockets)


@cache
def without_ipv6() -> tuple[str, ...]:
    """Where no socket of IPv6 can be made."""
    wrapper = (sys.executable, "-c", WITHOUT_IPV6)
    tried = subprocess.run(
        [*wrapper, sys.executable, "-c", ""], capture_output=True, text=True, check=False
    )
    if tried.returncode != 0:
        pytest.skip(f"seccomp(2) cannot be used here: {tried.stderr.strip()}")
    return wrapper


@cache
def own_network(*settings: str) -> tuple[str, ...]:
    """In a network of its own, with these sysctl settings, ``NAME=VALUE``."""
    if shutil.which("unshare") is None or shutil.which("sysctl") is None:
        pytest.skip("unshare(1) and sysctl(8) are not there")
    script = f'sysctl -q -w {shlex.join(settings)} && exec "$@"'
    wrapper = ("unshare", "--map-root-user", "--net", "sh", "-c", script, "sh")
    tried = subprocess.run([*wrapper, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no network of its own can be had here: {tried.stderr.strip()}")
    return wrapper


def limited(**limits: int) -> tuple[str, ...]:
    """With these limits of descriptors: ``soft`` and ``hard``."""
    script = "".join(
        f"ulimit -{letter}n {limits[name]} && "
        for letter, name in (("S", "soft"), ("H", "hard"))
        if name in limits
    )
    return "sh", "-c", f'{script}exec "$@"', "sh"
