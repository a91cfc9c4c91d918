"""The key-value example, to clients nobody here wrote and beside redis-server itself."""

import asyncio
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from itertools import chain

import pytest
import redis
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neverblock.servers import MODELS
from tests.servers.serving import PATIENCE, Process, served

HANDLER = "examples/keyvalue.py:handle"


@pytest.fixture
def server() -> Iterator[Process]:
    with served(HANDLER) as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.log


def port_of(server: Process) -> int:
    return int(server.url.rpartition(":")[2])


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def client(server: Process, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    with redis.Redis(
        port=port_of(server), protocol=request.param, socket_timeout=PATIENCE, client_name="tests"
    ) as connected:
        yield connected


def test_strings(client: redis.Redis) -> None:
    value = bytes(range(256))
    assert client.get("k") is None
    assert client.set("k", value) is True
    assert client.get("k") == value
    assert client.append("k", b"more") == 260
    assert client.get("k") == value + b"more"
    assert client.exists("k", "k", "absent") == 2
    assert client.delete("k", "absent") == 1
    assert client.dbsize() == 0


def test_set_has_its_options(client: redis.Redis) -> None:
    assert client.set("k", "1", xx=True) is None
    assert client.set("k", "1", nx=True) is True
    assert client.set("k", "2", nx=True) is None
    assert client.set("k", "2", get=True) == b"1"
    assert client.set("other", "2", get=True) is None
    assert client.set("k", "3", ex=100) is True
    assert client.set("k", "4", keepttl=True) is True
    assert 0 < client.ttl("k") <= 100
    assert client.set("k", "5") is True
    assert client.ttl("k") == -1
    for wrong in ("EX 0", "EX -1", "EX x", "EX", "NX XX", "EX 1 PX 1", "EX 1 KEEPTTL", "WHAT"):
        with pytest.raises(redis.ResponseError):
            client.execute_command("SET", "k", "6", *wrong.split())
    assert client.get("k") == b"5"


def test_numbers(client: redis.Redis) -> None:
    assert client.incr("n") == 1
    assert client.incr("n", 41) == 42
    assert client.decr("n", 50) == -8
    assert client.get("n") == b"-8"
    for wrong in ("x", "", "1.5", " 1", "+1", "01", "1_0", str(2**63)):
        client.set("k", wrong)
        with pytest.raises(redis.ResponseError, match="value is not an integer or out of range"):
            client.incr("k")
    client.set("k", 2**63 - 1)
    with pytest.raises(redis.ResponseError, match="would overflow"):
        client.incr("k")
    assert client.decr("k") == 2**63 - 2


def test_several_at_once(client: redis.Redis) -> None:
    assert client.mset({"a": 1, "b": 2}) is True
    assert client.mget("a", "absent", "b") == [b"1", None, b"2"]
    assert sorted(client.keys("*")) == [b"a", b"b"]
    assert client.keys("[^a]") == [b"b"]
    with pytest.raises(redis.ResponseError, match="wrong number of arguments for 'mset'"):
        client.execute_command("MSET", "a", "1", "b")
    assert client.flushdb() is True
    assert client.keys() == []


def test_expiry(client: redis.Redis) -> None:
    assert client.ttl("k") == -2
    client.set("k", "v")
    assert client.ttl("k") == -1
    assert client.expire("k", 100) == 1
    assert client.expire("absent", 100) == 0
    assert 99_000 < client.pttl("k") <= 100_000
    assert client.persist("k") == 1
    assert client.persist("k") == 0
    assert client.ttl("k") == -1
    client.pexpire("k", 1)
    while client.exists("k"):
        pass
    assert client.dbsize() == 0
    client.set("k", "v", px=1)
    client.set("k", "w", ex=100)  # The later deadline holds.
    client.set("gone", "v", px=2)
    while client.exists("gone"):
        pass
    assert client.get("k") == b"w"
    assert client.expire("k", -1) == 1
    assert client.exists("k") == 0


def test_what_clients_ask_about_the_server(client: redis.Redis) -> None:
    assert client.ping() is True
    assert client.echo("hello") == b"hello"
    assert client.client_getname() in ("tests", b"tests")
    assert client.client_id() > 0
    assert client.config_get("save") == {"save": ""}
    assert client.config_get("append*") == {"appendonly": "no"}
    assert client.config_get("absent") == {}
    assert client.select(0) is True
    client.set("k", "v", ex=100)
    facts = client.info()
    assert facts["db0"]["keys"] == 1
    assert facts["db0"]["expires"] == 1
    assert facts["connected_clients"] == 1
    assert set(client.info("clients")) == {"connected_clients"}
    assert client.command_count() == len(client.execute_command("COMMAND"))
    for wrong, message in {
        "SELECT 1": "DB index is out of range",
        "GET": "wrong number of arguments for 'get' command",
        "GET a b": "wrong number of arguments for 'get' command",
        "NOPE a b": "unknown command 'NOPE', with args beginning with: 'a' 'b'",
        "CLIENT NOPE": "unknown subcommand",
        "CONFIG SET save x": "only CONFIG GET",
        "HELLO 4": "unsupported protocol version",
    }.items():
        with pytest.raises(redis.ResponseError, match=re.escape(message)):
            client.execute_command(*wrong.split())
    assert client.ping() is True


def test_a_pipeline_is_answered_in_order(client: redis.Redis) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for n in range(5000):
            pipeline.set(f"k{n}", n)
            pipeline.get(f"k{n}")
        replies = pipeline.execute()
    assert replies == [reply for n in range(5000) for reply in (True, str(n).encode())]


def test_a_batch_of_large_replies_is_sent_in_parts(client: redis.Redis) -> None:
    value = bytes(1_000_000)
    client.set("big", value)
    with client.pipeline(transaction=False) as pipeline:
        for _ in range(30):
            pipeline.get("big")
        assert all(reply == value for reply in pipeline.execute())


def test_many_clients_of_asyncio_count_to_the_same_number(server: Process) -> None:
    async def count(client: redis.asyncio.Redis) -> list[int]:
        return [await client.incr("n") for _ in range(20)]

    async def main() -> list[list[int]]:
        async with redis.asyncio.Redis(port=port_of(server), socket_timeout=PATIENCE) as client:
            return await asyncio.gather(*(count(client) for _ in range(50)))

    counts = asyncio.run(main())
    assert sorted(n for counted in counts for n in counted) == list(range(1, 1001))


@pytest.mark.parametrize("model", MODELS)
def test_clients_of_threads_never_see_a_command_half_done(model: str) -> None:
    if model == "process":
        pytest.skip("there each client has a store of its own")
    with served(HANDLER, "--model", model) as server:
        see_whole_commands(server)


def see_whole_commands(server: Process) -> None:
    def work(number: int) -> None:
        with redis.Redis(port=port_of(server), socket_timeout=PATIENCE) as client:
            for _ in range(50):
                client.mset({"a": number, "b": number})
                seen.append(client.mget("a", "b"))

    seen: list[list[bytes]] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 200
    assert all(a == b for a, b in seen)


@pytest.mark.parametrize("model", MODELS)
def test_under_every_model(model: str) -> None:
    with served(HANDLER, "--model", model) as server:
        for number in (1, 2):
            with redis.Redis(port=port_of(server), socket_timeout=PATIENCE) as client:
                # Under the process model each client has a store of its own, empty at first.
                assert client.dbsize() == (1 if number == 2 and model != "process" else 0)
                client.set("k", bytes(300_000))
                assert client.get("k") == bytes(300_000)
                assert client.incr("n") == (1 if model == "process" else number)
                client.delete("k")
        assert server.stop() == 0
        assert "Traceback" not in server.log


def test_the_price_of_a_process_for_each_client_is_a_store_for_each() -> None:
    with served(HANDLER, "--model", "process") as server:
        options = {"port": port_of(server), "socket_timeout": PATIENCE}
        with (
            redis.Redis(**options, single_connection_client=True) as one,
            redis.Redis(**options, single_connection_client=True) as other,
        ):
            assert one.set("greeting", "hello") is True
            assert one.get("greeting") == b"hello"
            assert other.get("greeting") is None
            assert other.dbsize() == 0


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (
            b"*1\r\n$4\r\nPING\r\n*1\r\n+4\r\n",
            b"+PONG\r\n-ERR Protocol error: expected '$', got '+'\r\n",
        ),
        (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"\x16\x03\x01\x02\x00\n", b"-ERR unknown command '"),
        (b"QUIT\r\nPING\r\n", b"+OK\r\n"),
        (b"PING\r\nSET k 'a b'\r\nGET k\r\nQUIT\r\n", b"+PONG\r\n+OK\r\n$3\r\na b\r\n+OK\r\n"),
    ],
)
def test_by_hand(server: Process, sent: bytes, expected: bytes) -> None:
    with server.connect() as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
    assert answer.startswith(expected)


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not on PATH; Debian has it in redis-tools and redis-server")
    return path


def test_redis_cli(server: Process) -> None:
    def cli(*arguments: str, typed: str | None = None) -> str:
        return subprocess.run(
            [tool("redis-cli"), "-p", str(port_of(server)), *arguments],
            input=typed,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        ).stdout

    assert cli("ping") == "PONG\n"
    assert cli("set", "greeting", "hello world") == "OK\n"
    assert cli("-3", "get", "greeting") == "hello world\n"
    assert cli("--no-raw", "mget", "greeting", "absent") == '1) "hello world"\n2) (nil)\n'
    assert cli("-3", "--no-raw", "config", "get", "save") == '1# "save" => ""\n'
    assert cli(typed="incr n\nincr n\nnope\n") == (
        "1\n2\nERR unknown command 'nope', with args beginning with: \n\n"
    )
    pipe = "".join(f"SET key{n} value{n}\r\n" for n in range(1000))
    assert "errors: 0, replies: 1000" in cli("--pipe", typed=pipe)
    assert cli("dbsize") == "1002\n"


def test_redis_benchmark(server: Process) -> None:
    result = subprocess.run(
        [
            *(tool("redis-benchmark"), "-p", str(port_of(server)), "--csv", "-n", "2000"),
            *("-c", "20", "-P", "4", "-r", "100", "-t", "ping,set,get,incr,mset"),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    rows = [line.split(",")[0].strip('"') for line in result.stdout.splitlines()]
    assert rows[1:] == ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"]
    assert "Error" not in result.stdout + result.stderr


KEYS = st.sampled_from([b"a", b"b", b"\xff\r\n"])
NUMBERS = st.sampled_from(
    [b"", b"0", b"1", b"-1", b"007", b"+1", b"9223372036854775807", b"-9223372036854775808"]
)
WORDS = st.one_of(KEYS, NUMBERS, st.sampled_from([b"NX", b"xx", b"GET"]), st.binary(max_size=3))
#: Nothing that expires within the test, where the two might differ by a moment.
OPTIONS = st.one_of(
    st.sampled_from([[b"NX"], [b"xx"], [b"GET"], [b"KEEPTTL"], [b"EX"], [b"what"]]),
    st.tuples(
        st.sampled_from([b"EX", b"px"]),
        st.sampled_from([b"100000", b"0", b"-1", b"x", b"9223372036854776"]),
    ),
)
#: No KEYS, whose order is anybody's.
NAMES = st.one_of(
    st.sampled_from(["GET", "DEL", "EXISTS", "INCR", "DECR", "INCRBY", "DECRBY", "APPEND"]),
    st.sampled_from(["MGET", "MSET", "EXPIRE", "TTL", "PERSIST", "DBSIZE"]),
    st.sampled_from(["PING", "ECHO", "SELECT"]),
)
COMMANDS = st.one_of(
    st.tuples(NAMES, st.lists(WORDS, max_size=4)),
    st.tuples(
        st.just("SET"),
        st.builds(
            lambda key, value, options: [key, value, *chain(*options)],
            KEYS,
            WORDS,
            st.lists(OPTIONS, max_size=2),
        ),
    ),
    st.tuples(
        st.sampled_from(["INCR", "GET", "TTL", "DEL"]), st.lists(KEYS, min_size=1, max_size=1)
    ),
)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection with our server and one with a real redis-server, each of which is empty."""
    path = tmp_path_factory.mktemp("redis") / "redis.sock"
    with (
        served(HANDLER) as ours,
        subprocess.Popen(
            [
                *[tool("redis-server"), "--port", "0", "--unixsocket", str(path), "--save", ""],
                *["--databases", "1"],  # as ours
            ],
            stdout=subprocess.PIPE,
            text=True,
            cwd=path.parent,
        ) as theirs,
    ):
        try:
            assert theirs.stdout is not None
            for line in theirs.stdout:
                if "eady to accept connections" in line:
                    break
            with ours.connect() as one, socket.socket(socket.AF_UNIX) as other:
                other.settimeout(PATIENCE)
                other.connect(str(path))
                yield one, other
        finally:
            theirs.kill()


@given(st.lists(COMMANDS, max_size=8))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_answers_as_redis_does(both, commands: list[tuple[str, list[bytes]]]) -> None:
    words = [[name.encode(), *arguments] for name, arguments in commands]
    requests = [[b"FLUSHDB"], *words, [b"ECHO", b"the end"]]
    data = b"".join(
        b"*%d\r\n" % len(request) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in request)
        for request in requests
    )
    answers = []
    for sock in both:
        sock.sendall(data)
        answer = b""
        while not answer.endswith(b"$7\r\nthe end\r\n"):
            answer += sock.recv(65536)
        # What an error says may differ; that it is one may not.
        answers.append(re.sub(rb"(?m)^-[A-Z]+ .*\r$", b"-\r", answer))
    assert answers[0] == answers[1]
