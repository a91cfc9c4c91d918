"""The parser of the key-value example: any cut of the bytes, and any bytes at all."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import resp
from examples.resp import Parser, ProtocolError, encode, encode_error

ARGUMENTS = st.lists(
    st.one_of(st.binary(max_size=30), st.sampled_from([b"GET", b"\r\n", b"*1\r\n", b"$5\r\n"])),
    min_size=1,
    max_size=5,
)
#: Bytes that come near to what is allowed, and so into every corner.
NEARLY = st.lists(
    st.one_of(
        st.sampled_from(
            [b"*", b"$", b"-", b"\r\n", b"\n", b"\r", b"1", b"2", b"03", b"99999999999999999999"]
        ),
        st.sampled_from([b"*1\r\n$4\r\nPING\r\n", b"PING\r\n", b"'", b'"', b" ", b"SET a b\n"]),
        st.binary(max_size=4),
    ),
    max_size=20,
).map(b"".join)


def request(arguments: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(arguments) + b"".join(
        b"$%d\r\n%b\r\n" % (len(word), word) for word in arguments
    )


def parsed(pieces: list[bytes]) -> tuple[list[list[bytes]], str | None]:
    """The commands, and the complaint that ended it."""
    parser = Parser()
    commands = []
    try:
        for piece in pieces:
            commands += parser.feed(piece)
    except ProtocolError as error:
        return commands, str(error)
    return commands, None


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


PLACES = st.lists(st.integers(0, 10_000), max_size=30)


@given(st.lists(ARGUMENTS, max_size=6), PLACES)
def test_any_cut_gives_the_same_commands(commands, places) -> None:
    data = b"".join(map(request, commands))
    assert parsed(cut(data, places)) == (commands, None)


@given(st.one_of(NEARLY, st.binary(max_size=200)), PLACES)
@settings(max_examples=500, deadline=None)
def test_any_bytes_give_the_same_however_they_are_cut(data: bytes, places: list[int]) -> None:
    assert parsed(cut(data, places)) == parsed([data])


def test_a_large_argument_in_small_pieces_is_not_parsed_again_and_again() -> None:
    data = request([b"SET", b"key", bytes(5_000_000)])
    pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
    commands, complaint = parsed(pieces)
    assert complaint is None
    assert [len(word) for word in commands[0]] == [3, 3, 5_000_000]


def test_what_came_before_the_error_is_still_a_command() -> None:
    assert parsed([b"*1\r\n$4\r\nPING\r\n*1\r\n:4\r\n"]) == (
        [[b"PING"]],
        "expected '$', got ':'",
    )


@pytest.mark.parametrize(
    ("data", "commands"),
    [
        (b"PING\r\n", [[b"PING"]]),
        (b"PING\n", [[b"PING"]]),
        (b"  SET  a\tb \r\n", [[b"SET", b"a", b"b"]]),
        (
            b"SET greeting \"hello world\" 'x y'\r\n",
            [[b"SET", b"greeting", b"hello world", b"x y"]],
        ),
        (b'SET k ""\r\n', [[b"SET", b"k", b""]]),
        (b"SET k \xff\xfe\r\n", [[b"SET", b"k", b"\xff\xfe"]]),
        (b"\r\n\n  \r\nPING\r\n", [[b"PING"]]),
        (b"*0\r\n*-1\r\nPING\r\n", [[b"PING"]]),
    ],
)
def test_commands_typed_by_hand(data: bytes, commands: list[list[bytes]]) -> None:
    assert parsed([data]) == (commands, None)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"*x\r\n", "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"*1_0\r\n", "invalid multibulk length"),
        (b"*%d\r\n" % (resp.MAX_ARGUMENTS + 1), "invalid multibulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$x\r\n", "invalid bulk length"),
        (b"*1\r\n$%d\r\n" % (resp.MAX_COMMAND + 1), "invalid bulk length"),
        (b"*1\r\n\n", "expected '$', got '\\n'"),
        (b"*1\r\n$4\r\nPINGPING", "expected CRLF after a bulk string"),
        (b'SET k "open\r\n', "unbalanced quotes in request"),
        (b"x" * resp.MAX_LINE, "too big inline request"),
        (b"*" + b"1" * resp.MAX_LINE, "too big mbulk count string"),
        (b"*1\r\n$" + b"1" * resp.MAX_LINE, "too big bulk count string"),
    ],
)
def test_bytes_that_make_no_sense(data: bytes, complaint: str) -> None:
    assert parsed([data]) == ([], complaint)


def test_a_command_of_many_arguments_is_bounded_as_a_whole() -> None:
    half = b"$%d\r\n" % (resp.MAX_COMMAND // 2)
    head = b"*3\r\n" + half
    parser = Parser()
    list(parser.feed(head))
    list(parser.feed(bytes(resp.MAX_COMMAND // 2) + b"\r\n"))
    with pytest.raises(ProtocolError, match="invalid bulk length"):
        list(parser.feed(half))


@pytest.mark.parametrize(
    ("reply", "two", "three"),
    [
        (b"a\r\nb", b"$4\r\na\r\nb\r\n", None),
        (b"", b"$0\r\n\r\n", None),
        ("OK", b"+OK\r\n", None),
        (-7, b":-7\r\n", None),
        (None, b"$-1\r\n", b"_\r\n"),
        ([b"a", None, 1], b"*3\r\n$1\r\na\r\n$-1\r\n:1\r\n", b"*3\r\n$1\r\na\r\n_\r\n:1\r\n"),
        ([], b"*0\r\n", None),
        ({b"a": 1}, b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
        ({}, b"*0\r\n", b"%0\r\n"),
    ],
)
def test_replies(reply: resp.Reply, two: bytes, three: bytes | None) -> None:
    assert encode(reply, 2) == two
    assert encode(reply, 3) == (two if three is None else three)


def test_an_error_is_one_line() -> None:
    assert encode_error("ERR no\r\n+OK") == b"-ERR no +OK\r\n"
