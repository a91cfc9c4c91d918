"""Redis servers that want a password: it is sent, and never told to anybody else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from neverblock.errors import PlanError
from neverblock.load import Plan, run
from neverblock.load.target import Target, masked
from tests.load import stubs
from tests.load.real_redis import redis_server
from tests.load.stubs import Handle, stub
from tests.load.test_bad_servers import SHORT, certified
from tests.servers.serving import neverblock, neverblock_here

#: What a URL has no place for, and more than ASCII.
SECRET = "p@ss:w/rd#?% \N{SNOWMAN}"
QUOTED = quote(SECRET, safe="")
ALL = ("~*", "+@all")


@pytest.mark.parametrize(
    ("options", "login"),
    [
        (("--requirepass", SECRET), f":{QUOTED}"),
        (("--requirepass", SECRET), f"default:{QUOTED}"),
        (
            ("--user", "b@b", "on", f">{SECRET}", *ALL, "--user", "default", "off"),
            f"b%40b:{QUOTED}",
        ),
        (("--user", "open", "on", "nopass", *ALL, "--user", "default", "off"), "open:"),
        (("--requirepass", "not/quoted@all"), ":not/quoted@all"),
    ],
)
@pytest.mark.parametrize("plan", [{"pipeline": 4, "processes": 2}, {"mix": "ping"}, {"ramp": 0.1}])
def test_who_has_the_password_is_let_in(
    tmp_path: Path, options: tuple[str, ...], login: str, plan: dict[str, object]
) -> None:
    with redis_server(tmp_path, *options) as address:
        target = f"redis://{login}@{address}"
        result = run(Plan(target=target, connections=4, duration=0.2, **plan))  # type: ignore[arg-type]
    assert result.errors == {}
    assert result.requests > 0
    assert result.target == f"redis://{login.partition(':')[0]}:***@{address}"
    assert not told(json.dumps(result.to_json()), login)


def told(text: str, login: str) -> list[str]:
    """How a password stands in a text: as it is, or as it was written."""
    secret = login.partition(":")[2]
    return [each for each in (secret, SECRET) if each and each in text]


@pytest.mark.parametrize(
    ("options", "login", "words", "cure"),
    [
        (
            ("--requirepass", SECRET),
            ":wr0ng",
            "WRONGPASS invalid username-password pair or user is disabled",
            "check user and password (in a URL, % is written %25)",
        ),
        (
            ("--requirepass", SECRET),
            f"b0b:{QUOTED}",
            "WRONGPASS invalid username-password pair or user is disabled",
            "check user and password (in a URL, % is written %25)",
        ),
        (
            (),
            ":wr0ng",
            "ERR AUTH <password> called without any password configured for the default user",
            "leave the password out; this server wants none",
        ),
    ],
)
@pytest.mark.parametrize("mix", ["get", "ping"])
def test_a_wrong_password_is_one_error_with_the_cure(
    tmp_path: Path, options: tuple[str, ...], login: str, words: str, cure: str, mix: str
) -> None:
    with redis_server(tmp_path, *options) as address:
        done = neverblock(
            *("load", f"redis://{login}@{address}", "--mix", mix, "--processes", "2"),
            *("--json", "-"),
        )
    assert done.returncode == 2
    assert done.stdout == ""
    shown = f"redis://{login.partition(':')[0]}:***@{address}"
    assert done.stderr.startswith(f"neverblock: {shown}: {words}")
    assert done.stderr.endswith(f"; {cure}\n")
    assert done.stderr.count("\n") == 1
    assert not told(done.stderr, login)


def test_a_password_that_was_left_out_is_asked_for(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", SECRET) as address:
        done = neverblock("load", f"redis://{address}")
        counted = run(Plan(target=f"redis://{address}", mix="ping", **SHORT))
    assert done.returncode == 2
    assert "NOAUTH Authentication required; write redis://:PASSWORD@HOST:PORT" in done.stderr
    assert done.stderr.count("\n") == 1
    assert counted.errors.keys() == {"redis NOAUTH"}


def test_what_a_user_may_not_do_is_counted(tmp_path: Path) -> None:
    user = ("--user", "reader", "on", ">secret", "~*", "+ping", "+get")
    with redis_server(tmp_path, *user) as address:
        target = f"redis://reader:secret@{address}"
        result = run(Plan(target=target, mix="ping=1,set=1", **SHORT))
    assert result.errors.keys() == {"redis NOPERM"}
    assert result.requests > 0


@pytest.mark.parametrize(
    ("handle", "kind", "detail"),
    [
        (stubs.closing, "closed by server", "instead of an answer to AUTH"),
        (stubs.resetting, "connection reset", ""),
        (stubs.silent, "connect timeout", ""),
        (
            stubs.echo,
            "wrong answer",
            "AUTH was answered by '*words that have the password in them'",
        ),
        (stubs.saying(b"HTTP/1.1 400 No\r\n"), "wrong answer", "answered by 'HTTP/1.1 400 No'"),
        (
            stubs.saying(b"-ERR max number of clients reached\r\n"),
            "login refused",
            "ERR max number",
        ),
        (stubs.saying(b"-ERR what is 'secret'?\r\n"), "login refused", "words that have the pass"),
        (stubs.saying(b"+OK\r\n+OK\r\n"), "wrong answer", "AUTH was answered by"),
    ],
)
def test_a_server_that_has_no_answer_to_it_is_one_error(
    handle: Handle, kind: str, detail: str
) -> None:
    with stub(handle) as address:
        result = run(Plan(target=f"redis://:secret@{address}", **SHORT))
    assert result.errors == {kind: 1}
    assert detail in result.examples.get(kind, "")
    assert "secret" not in json.dumps(result.to_json())


def test_a_cure_is_told_without_a_password_that_the_server_repeats() -> None:
    with (
        stub(stubs.saying(b"-WRONGPASS 'secret' is none\r\n")) as address,
        pytest.raises(PlanError, match="check user and password") as caught,
    ):
        run(Plan(target=f"redis://:secret@{address}", **SHORT))
    assert "secret" not in str(caught.value)


async def pings_for_a_password(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    assert await reader.readuntil(b"secret\r\n") == b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n"
    writer.write(b"+OK\r\n")
    while await reader.readuntil(b"PING\r\n"):
        writer.write(b"+PONG\r\n")


def test_it_is_sent_over_tls_as_well() -> None:
    import trustme

    with stub(pings_for_a_password, tls=certified("127.0.0.1", trustme.CA())) as address:
        target = f"rediss://:secret@{address}"
        result = run(Plan(target=target, insecure=True, mix="ping", **SHORT))
    assert result.errors == {}
    assert result.requests > 0


def test_idle_connections_say_nothing(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", "secret") as address:
        target = f"redis://:secret@{address}"
        result = run(Plan(target=target, connections=1, idle=5, duration=0.2))
    assert result.errors == {}
    assert (result.idle.opened, result.idle.closed) == (5, 0)


def test_workers_of_a_fleet_send_it_and_tell_it_nobody(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", "secret") as address:
        options = ("--fleet", "local:1", "--connections", "2", "--duration", "0.2", "--json", "-")
        done = neverblock("load", f"redis://:secret@{address}", *options)
        refused = neverblock("load", f"redis://:s3cret@{address}", *options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["target"] == f"redis://:***@{address}"
    assert refused.returncode == 2
    assert "WRONGPASS" in refused.stderr
    for text in (done.stdout, done.stderr, refused.stderr):
        assert "secret" not in text
        assert "s3cret" not in text


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://:secret@", "redis://:***@: no host; write redis://HOST:PORT"),
        (
            "redis://bob:secret@h:x",
            "redis://bob:***@h:x: no host and port; write redis://HOST:PORT",
        ),
        ("redis://:secret@h/0", "redis://:***@h/0: only a host and a port"),
        ("redis://secret@h", "redis://***@h: no password; write redis://:PASSWORD@HOST:PORT"),
        ("redis://:@h", "redis://:***@h: no password; write"),
        ("redis://:sec ret@h", "'redis://:***@h' has a space"),
        ("http://bob:secret@h", "http://bob:***@h: users and passwords are not sent"),
        ("http://bob:secret/x@h", "http://bob:***@h: no host and port"),
        ("tcp://bob:secret@h:1", "tcp://bob:***@h:1: users and passwords are not sent"),
        ("bob:secret@h:1", "'bob:***@h:1' is no URL of"),
        ("ftp://bob:secret@h:1", "'ftp://bob:***@h:1' is no URL of"),
    ],
)
def test_what_is_wrong_with_a_url_is_told_without_the_password(url: str, told: str) -> None:
    done = neverblock_here("load", url)
    assert done.returncode == 2
    assert told in done.stderr
    assert "sec" not in done.stderr


@given(st.binary(max_size=30), st.binary(min_size=1, max_size=30))
def test_every_user_and_password_can_be_written(user: bytes, password: bytes) -> None:
    target = Target.parse(f"redis://{quote(user, safe='')}:{quote(password, safe='')}@h")
    assert (target.user, target.password, target.host) == (user, password, "h")


def all_that_is_told(url: str) -> str:
    plan = Plan(target=url)
    with pytest.raises(PlanError) as caught:
        Plan(target=f"{url}:x")
    return "\n".join((plan.shown, repr(plan), repr(plan.parsed), masked(url), str(caught.value)))


@given(st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="%"), min_size=8))
@example("get=9,se")
def test_nothing_that_is_told_of_a_plan_has_the_password_in_it(password: str) -> None:
    # A plan has words of its own, and one of them may be the password.
    assume(password not in all_that_is_told("redis://:anything@h"))
    url = f"redis://:{password}@h"
    assert Plan(target=url).parsed.password == password.encode()
    assert password not in all_that_is_told(url)
