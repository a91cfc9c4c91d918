"""A session to any sequence of events, however the bytes between the two sides are cut."""

import random
import re
import ssl
import sys
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neverblock.servers.tls.session import SLICE, Session
from tests.servers.tls.client import DAMAGED, Client
from tests.servers.tls.conftest import Authority

DATA = random.Random(1).randbytes(200_000)


@dataclass
class Wire:
    """A session and a client, and what is on its way between them."""

    session: Session
    client: Client
    to_server: bytearray = field(default_factory=bytearray)
    to_client: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    finished: bool = False

    def collect(self) -> None:
        self.to_server += self.client.outgoing.read()
        if self.session.due and not self.finished:
            self.to_client += self.session.output()

    def carry(self, towards: str, size: int) -> None:
        self.collect()
        buffer = self.to_server if towards == "server" else self.to_client
        data = bytes(buffer[:size])
        del buffer[:size]
        if towards == "server":
            self.received += self.session.receive(data)
        else:
            self.client.take(data)
        self.collect()

    def carry_all(self) -> None:
        self.collect()
        while self.to_server or self.to_client:
            self.carry("server", len(self.to_server))
            self.carry("client", len(self.to_client))

    def send(self, data: bytes) -> None:
        for at in range(0, len(data), SLICE):
            self.to_client += self.session.send(data[at : at + SLICE])

    def end(self) -> None:
        self.finished = True
        self.to_client += self.session.end()


def wire(authority: Authority, version: ssl.TLSVersion) -> Wire:
    return Wire(Session(authority.server()), Client(authority.client(version=version)))


@pytest.fixture
def connected(authority: Authority, version: ssl.TLSVersion) -> Wire:
    both = wire(authority, version)
    both.carry_all()
    assert both.session.established
    return both


SIZES = st.one_of(st.integers(0, 40), st.sampled_from([16_383, 16_384, 16_385, 65_536, 150_000]))
CUTS = st.one_of(st.integers(1, 64), st.sampled_from([5, 1_000, 16_406, 70_000, 1_000_000]))
EVENTS = st.one_of(
    st.tuples(st.sampled_from(["carry to server", "carry to client"]), CUTS),
    st.tuples(st.sampled_from(["client sends", "server sends"]), SIZES),
    st.sampled_from([("client ends", 0), ("server ends", 0)]),
)


@given(st.lists(EVENTS, max_size=40), st.sampled_from(["TLSv1_2", "TLSv1_3"]), st.booleans())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_byte_is_lost_in_any_order_of_events(
    authority: Authority, events: list[tuple[str, int]], version: str, secure: bool
) -> None:
    both = wire(authority, ssl.TLSVersion[version])
    if secure:
        both.carry_all()
    session, client = both.session, both.client
    sent = {"client": b"", "server": b""}
    ended = set()
    for event, size in events:
        who, _, what = event.partition(" ")
        if who == "carry":
            both.carry(what.partition(" ")[2], size)
        elif not (client.secure and session.established) or who in ended:
            continue
        elif what == "ends":
            ended.add(who)
            client.end() if who == "client" else both.end()
        else:
            data = DATA[:size]
            sent[who] += data
            client.write(data) if who == "client" else both.send(data)
    both.carry_all()
    assert session.failure is None
    assert both.received == sent["client"]
    assert client.received == sent["server"]
    assert session.ended == ("client" in ended)
    assert client.ended == ("server" in ended)


@given(st.binary(max_size=200), st.integers(0, 400))
@settings(max_examples=200, deadline=None)
def test_garbage_is_a_failure_and_never_an_exception(
    authority: Authority, garbage: bytes, after: int
) -> None:
    both = wire(authority, ssl.TLSVersion.TLSv1_3)
    both.collect()
    assert both.session.receive(bytes(both.to_server[:after]) + garbage + bytes(20_000)) == b""
    assert not both.session.established
    assert both.session.failure is not None
    assert "\n" not in both.session.failure
    assert both.session.receive(b"more") == b""
    assert both.session.end() == both.session.output() or both.session.output() == b""


def test_what_came_before_a_damaged_record_is_handed_out(connected: Wire) -> None:
    connected.client.write(b"whole")
    connected.collect()
    connected.to_server += b"\x17\x03\x03\x00\x20" + bytes(32)
    connected.carry("server", 1000)
    assert connected.received == b"whole"
    assert re.search(DAMAGED, connected.session.failure or "")
    # The peer is told why.
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        connected.client.take(bytes(connected.to_client))


def test_tickets_leave_with_the_first_answer(authority: Authority, version: ssl.TLSVersion) -> None:
    both = wire(authority, version)
    both.carry_all()
    assert both.session.established
    assert not both.session.due
    held = version == ssl.TLSVersion.TLSv1_3 and sys.platform == "linux"
    assert both.session.withholds == held
    answer = both.session.send(b"x")
    assert (len(answer) > 400) == held
    assert not both.session.withholds
    both.client.take(answer)
    assert both.client.received == b"x"
    assert both.client.object.session is not None
    assert both.client.object.session.has_ticket


def test_what_was_agreed_on(authority: Authority) -> None:
    both = Wire(
        Session(authority.server(verify=True, alpn=("h2", "http/1.1"))),
        Client(authority.client(name="alice", alpn=("http/1.1", "spdy/3"))),
    )
    both.carry_all()
    info = both.session.info()
    assert info.version == "TLSv1.3"
    assert info.cipher.startswith("TLS_")
    assert info.alpn == "http/1.1"
    assert info.certificate is not None
    assert (("commonName", "alice"),) in info.certificate["subject"]


def test_an_end_before_the_handshake_says_nothing(authority: Authority) -> None:
    assert Session(authority.server()).end() == b""


def test_memory_of_a_large_transfer_is_given_back(connected: Wire) -> None:
    for _ in range(20):
        connected.client.write(DATA)
        connected.send(DATA)
        connected.carry_all()
    assert connected.received == DATA * 20
    assert connected.client.received == DATA * 20
    assert connected.session._outgoing.pending == connected.session._incoming.pending == 0
