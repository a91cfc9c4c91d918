"""The server's side of one TLS connection, apart from any socket (RFC 8446, RFC 5246).

Bytes of the peer's go in, plaintext comes out; plaintext goes in, bytes for the peer come out.

Invariants:
- What was received is decrypted at once: nothing but a part of a record waits in OpenSSL. So
  ``end`` cannot meet data, which SSL_shutdown(3) would take for an error.
- OpenSSL is never told that the peer's bytes have ended without close_notify: to it that is an
  error, after which it sends nothing more. Here it is an end like any other.
- OpenSSL's buffers grow and never shrink, so no more than SLICE bytes go through them at once.
- Not for two threads at once.
"""

import logging
import ssl
import sys
from typing import Final

from neverblock.servers.handler import TlsInfo

logger = logging.getLogger("neverblock.server")

#: Seconds that a handshake may take: asyncio's number.
HANDSHAKE_TIMEOUT: Final = 60.0

#: Bytes of plaintext that are encrypted at once, and of ciphertext that are decrypted at once.
SLICE: Final = 64 * 1024

#: The most plaintext that a record holds (RFC 8446, 5.1): SSL_read(3) hands out one at a time.
RECORD: Final = 16 * 1024

#: Bytes of TLS's own answers that may wait for a peer that reads nothing: a few go by in the life
#: of a connection, and a peer that never stops to ask must not fill our memory.
MOST_ANSWERS: Final = 64 * 1024

#: A handshake message that came in several records, as far as it came: nothing can be sent before
#: its rest.
UNFINISHED: Final = "the peer has not finished a message of TLS's own"

#: OpenSSL's reasons, as an administrator would put them.
REASONS: Final = {
    "HTTP_REQUEST": "the peer speaks plain HTTP",
    "HTTPS_PROXY_REQUEST": "the peer takes this for an HTTP proxy",
    "NO_SHARED_CIPHER": "the peer offers no cipher that we have",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer showed no certificate",
    "SHUTDOWN_WHILE_IN_INIT": UNFINISHED,
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer takes our certificate for a bad one",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer says that our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer does not accept our certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not know who signed our certificate",
    "UNSUPPORTED_PROTOCOL": "the peer offers no version of TLS that we have",
    "WRONG_VERSION_NUMBER": "what the peer sent is no TLS",
}


class TlsError(ConnectionError):
    """TLS with this peer has failed; the message says why, for people."""


class UnreadAnswersError(TlsError):
    """The peer asks for MOST_ANSWERS and reads none."""

    def __init__(self) -> None:
        super().__init__("the peer asks for answers and reads none")


class Session:
    """One connection's TLS. What was made for the peer leaves by ``send``, ``end``, ``output``."""

    __slots__ = (
        *("_incoming", "_info", "_object", "_outgoing", "_tickets"),
        *("ended", "established", "failure"),
    )

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._tickets = 0
        #: The handshake is done.
        self.established = False
        #: The peer has sent its close_notify: no plaintext follows.
        self.ended = False
        #: Why nothing goes on, for people; ``output`` is the alert that tells the peer.
        self.failure: str | None = None

    def receive(self, data: bytes) -> bytes:
        """The plaintext that these bytes of the peer's complete. Look at the state afterwards."""
        if len(data) <= SLICE:
            return self._receive(data)
        view = memoryview(data)
        return b"".join(self._receive(view[at : at + SLICE]) for at in range(0, len(view), SLICE))

    def send(self, data: bytes | bytearray | memoryview) -> bytes:
        """At most SLICE bytes of plaintext, encrypted, after all that was still to be sent.

        Look at ``failure`` afterwards: with that they are lost.
        """
        self._tickets = 0
        if len(data) and self.failure is None:
            try:
                self._object.write(data)  # All of it: a buffer in memory is never full.
            except ssl.SSLWantReadError:
                self.failure = UNFINISHED
            except ssl.SSLError as error:
                self.failure = reason_of(error)
        return self._outgoing.read()

    def end(self) -> bytes:
        """close_notify, after all that was still to be sent. Receiving goes on."""
        self._tickets = 0
        if self.established and self.failure is None:
            try:
                self._object.unwrap()
            except ssl.SSLWantReadError:
                pass  # It has sent ours, and would wait for the peer's.
            except ssl.SSLError as error:
                self.failure = reason_of(error)
        return self._outgoing.read()

    @property
    def withholds(self) -> bool:
        """Whether the handshake's last bytes wait for the first answer."""
        return self._tickets > 0

    @property
    def due(self) -> bool:
        """Whether there is something for the peer that does not wait for the next ``send``."""
        return self._outgoing.pending > self._tickets

    def output(self) -> bytes:
        """What there is for the peer."""
        self._tickets = 0
        return self._outgoing.read()

    @property
    def object(self) -> ssl.SSLObject:
        """What the ssl module tells of the connection; not to be read from or written to."""
        return self._object

    def info(self) -> TlsInfo:
        """What was agreed on; once established."""
        return self._info

    def _receive(self, data: bytes | memoryview) -> bytes:
        if self.ended or self.failure is not None:
            return b""
        self._incoming.write(data)
        records: list[bytes] = []
        try:
            if not self.established:
                self._shake_hands()
            while record := self._object.read(RECORD):
                if not self._incoming.pending:
                    # No more was given, so there is no need for an exception to say so.
                    if not records:
                        return record
                    records.append(record)
                    break
                records.append(record)
            else:
                self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # What read() raises for b"", once we have ended ours.
            self.ended = True
        except ssl.SSLError as error:
            self.failure = reason_of(error)
        return b"".join(records)

    def _shake_hands(self) -> None:
        self._object.do_handshake()
        self.established = True
        cipher = self._object.cipher()
        # Asked for now: OpenSSL tells no certificate of a peer that is within a message of TLS's.
        self._info = TlsInfo(
            version=self._object.version() or "",
            cipher=cipher[0] if cipher else "",
            alpn=self._object.selected_alpn_protocol(),
            certificate=self._object.getpeercert() or None,
        )
        if self._info.version == "TLSv1.3" and sys.platform == "linux":
            # Tickets for a later session leave with the first answer. A client that only sends
            # would never read them, and its close would then be a reset (RFC 2525, 2.17). They
            # would have carried an acknowledgement: see sockets.acknowledge.
            self._tickets = self._outgoing.pending


def report_failure(peer: str, error: Exception) -> None:
    """Log a handshake that failed; that the peer just left is no failure."""
    level = logging.INFO if isinstance(error, TlsError) else logging.DEBUG
    logger.log(level, "TLS handshake with %s failed: %s", peer, error)


def reason_of(error: ssl.SSLError) -> str:
    """What went wrong, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the peer's certificate is refused: {error.verify_message}"
    name = str(getattr(error, "reason", "") or "")
    if name in REASONS:
        return REASONS[name]
    return name.replace("_", " ").lower() or str(error)
