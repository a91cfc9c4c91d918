"""HTTP and Redis, as real servers speak them and however their bytes are cut."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverblock.load import Plan, run
from neverblock.load.client import Client, Meter
from neverblock.load.http import Http
from neverblock.load.plan import weights
from neverblock.load.redis import Commands, Redis
from tests.load.real_redis import redis_server
from tests.load.stubs import saying_once, stub
from tests.servers.serving import served

SECOND = 10**9


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mix": "ping=1,set=2,get=3", "pipeline": 16, "processes": 2},
        {"mix": "set,get", "size": 300_000},
        {"mix": "ping", "rate": 300.0},
    ],
)
def test_a_real_redis_answers_as_it_should(tmp_path: Path, options: dict[str, Any]) -> None:
    with redis_server(tmp_path) as address:
        result = run(Plan(target=f"redis://{address}", connections=4, duration=0.4, **options))
    assert result.errors == {}
    assert result.requests > 0


def test_our_own_key_value_server_does_too() -> None:
    with served("examples/keyvalue.py:handle") as server:
        target = server.url.replace("tcp://", "redis://")
        result = run(Plan(target=target, connections=4, duration=0.3))
    assert result.errors == {}
    assert result.requests > 0


@pytest.mark.parametrize(
    "version", ["HTTP/1.0 200 OK\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n"]
)
def test_a_server_that_closes_after_each_response_as_it_says(version: str) -> None:
    with stub(saying_once(f"{version}\r\nall that comes".encode())) as address:
        result = run(Plan(target=f"http://{address}/", connections=2, duration=0.3))
    assert result.errors == {}
    assert result.requests > 2
    assert result.connect.count >= result.requests


class Wire:
    """Where a client's transport would be: what it wrote is to be answered."""

    def set_write_buffer_limits(self, high: int) -> None: ...

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None: ...


class Keeper:
    """Is told that a connection is over."""

    def lost(self, client: Client) -> None: ...


def closed_loop() -> Meter:
    """A meter whose clients send as soon as they have read."""
    return Meter(lambda callback: callback(), lambda when, callback: None, None, 0, 0, 1)


def fed(client: Client, meter: Meter, data: bytes, cuts: list[int]) -> None:
    """Give a client what a server says, cut there."""
    client.connection_made(Wire())  # type: ignore[arg-type]
    meter.start(0, 0, 2**62)
    client.go()
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    for start, end in pairwise(places):
        client.data_received(data[start:end])


def response(status: int, body: bytes, chunks: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Any", *(f"{name}: {value}" for name, value in headers.items())]
    if status in (204, 304):
        framed = b""
    elif chunks:
        step = -(-len(body) // chunks) or 1
        pieces = [body[i : i + step] for i in range(0, len(body), step)]
        framed = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        framed += b"0\r\nTrailer: 1\r\n\r\n"
        lines.append("Transfer-Encoding: chunked")
    else:
        framed = body
        lines.append(f"content-length:{len(body)} ")
    return "\r\n".join([*lines, "", ""]).encode() + framed


RESPONSES = st.builds(
    response,
    st.sampled_from([200, 204, 304, 404, 500, 503]),
    st.binary(max_size=60),
    st.integers(0, 3),
    st.dictionaries(
        st.text("abcXYZ-", min_size=1, max_size=8), st.text("abc :,", max_size=8), max_size=3
    ),
)


@given(st.lists(RESPONSES, min_size=1, max_size=8), st.lists(st.integers(0, 2**16)), st.booleans())
def test_http_is_read_however_it_is_cut(
    responses: list[bytes], cuts: list[int], interim: bool
) -> None:
    meter = closed_loop()
    client = Http(meter, Keeper(), len(responses), b"GET")
    first = b"HTTP/1.1 100 Continue\r\n\r\n" if interim else b""
    fed(client, meter, first + b"".join(responses), cuts)
    bad = [int(text[9:12]) for text in responses if int(text[9:12]) >= 400]
    assert client.alive
    assert client.answers == len(responses)
    assert meter.errors == {f"HTTP {status}": bad.count(status) for status in bad}
    assert meter.total == len(responses) - len(bad)


@given(st.binary(max_size=200), st.lists(st.integers(0, 2**16), max_size=5))
def test_nonsense_for_http_ends_the_connection_or_waits(data: bytes, cuts: list[int]) -> None:
    meter = closed_loop()
    client = Http(meter, Keeper(), 1, b"GET")
    fed(client, meter, data, cuts)
    assert client.alive or meter.errors == {"wrong answer": 1}


@given(
    st.integers(1, 300),
    st.lists(st.sampled_from(["right", "error", "gone"]), min_size=1, max_size=12),
    st.lists(st.integers(0, 2**16)),
)
def test_redis_is_read_however_it_is_cut(size: int, kinds: list[str], cuts: list[int]) -> None:
    commands = Commands(size, 5, weights("ping=1,set=1,get=2"))
    meter = closed_loop()
    client = Redis(meter, Keeper(), len(kinds), commands)
    said, errors = b"", 0
    for number, kind in enumerate(kinds):
        turn = commands.turns[number % len(commands.turns)]
        value = commands.value(number % commands.keys)
        right = [b"+PONG\r\n", b"+OK\r\n", b"$%d\r\n%b\r\n" % (size, value)][turn]
        wrong = b"$-1\r\n" if kind == "gone" and turn == 2 else b"-ERR no\r\n"
        said += right if kind == "right" else wrong
        errors += kind != "right"
    fed(client, meter, said, cuts)
    assert client.alive
    assert client.answers == len(kinds)
    assert meter.failures == errors


@given(st.integers(1, 50), st.data())
def test_one_wrong_byte_of_a_value_is_noticed(size: int, data: st.DataObject) -> None:
    commands = Commands(size, 1, {"get": 1})
    reply = bytearray(b"$%d\r\n%b\r\n" % (size, commands.value(0)))
    reply[data.draw(st.integers(0, len(reply) - 1))] ^= 1
    meter = closed_loop()
    client = Redis(meter, Keeper(), 1, commands)
    fed(client, meter, bytes(reply), [])
    assert meter.total == 0
