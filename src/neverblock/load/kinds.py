"""What went wrong, in a few words: errors are counted by these.

An error has one kind, whatever process or machine it happened on; what else is known of it is kept
as an example of its kind.
"""

import errno
import socket
import ssl

WRONG = "wrong answer"
TIMEOUT = "timeout"
CLOSED = "closed by server"
UNSENT = "not sent in time"
CONNECT_TIMEOUT = "connect timeout"
NO_NAME = "name not found"
BACKLOG = "backlog full"
CERTIFICATE = "certificate refused"
HANDSHAKE = "TLS handshake failed"
NO_PORT = "no free source port"
NO_SOCKET = "no such socket"
DIED = "load process died"
LOST = "worker lost"
LOGIN = "login refused"

#: By errno: connect(2), recv(2), send(2).
KINDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.ECONNABORTED: "connection reset",
    errno.EPIPE: "connection reset",
    errno.ETIMEDOUT: CONNECT_TIMEOUT,
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.EADDRNOTAVAIL: NO_PORT,
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.ENOENT: NO_SOCKET,
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EAGAIN: BACKLOG,
    errno.ENOBUFS: "out of memory for sockets",
    errno.ENOMEM: "out of memory for sockets",
}


class LoginError(ConnectionError):
    """A server does not let us in; ``cure`` is what to do, "" where that is not known."""

    def __init__(self, kind: str, detail: str, cure: str = "") -> None:
        super().__init__(detail)
        self.kind = kind
        self.cure = cure


def kind_of(error: BaseException) -> str:
    """The kind of an exception that a connection met."""
    match error:
        case LoginError():
            return error.kind
        case ssl.SSLCertVerificationError():
            return CERTIFICATE
        case ssl.SSLEOFError():
            return CLOSED
        case ssl.SSLError():
            return HANDSHAKE
        case TimeoutError() if error.errno is None:
            return CONNECT_TIMEOUT
        case socket.gaierror():
            return NO_NAME
        case ConnectionResetError() | ConnectionAbortedError() if error.errno is None:
            return "connection reset"
        case OSError() if error.errno in KINDS:
            return KINDS[error.errno]
        case OSError() if error.errno is not None:
            return errno.errorcode.get(error.errno, type(error).__name__)
    return type(error).__name__
