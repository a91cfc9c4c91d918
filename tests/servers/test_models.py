"""What every server model does alike, and what is its own: real clients, a process that serves."""

import hashlib
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from neverblock.servers import MODELS
from tests.servers.serving import PATIENCE, exactly, neverblock, reset, served

#: Those where one connection need not wait for another.
SIDE_BY_SIDE = [model for model in MODELS if model != "iterative"]
#: Those whose handlers see one memory.
SHARING = ["loop", "thread", "pool"]
WITHOUT_LOOP = [model for model in MODELS if model != "loop"]

HANDLERS = '''
import asyncio
import contextvars
import os
import signal
import sys
import time

async def echo(stream):
    async for chunk in stream:
        await stream.send(chunk)

async def whole(stream):
    """Answers with all that came, once the client has ended its half."""
    data = b""
    async for chunk in stream:
        data += chunk
    await stream.send(data)

async def closing(stream):
    await stream.send(b"bye")
    await stream.send_eof()
    await stream.send(await stream.receive())  # Refused: that half is closed.

async def failing(stream):
    word = await stream.receive()
    if word == b"fail":
        raise LookupError("no such word")
    await stream.send(word)

async def lines(stream):
    while True:
        await stream.send(await stream.receive_until(b"\\n"))

async def sized(stream):
    size = int.from_bytes(await stream.receive_exactly(4), "big")
    await stream.send(b"?")
    await stream.receive_exactly(size)
    await stream.send(size.to_bytes(4, "big"))

async def slow(stream):
    word = await stream.receive()
    await stream.send(b"wait")
    time.sleep(0.3)
    await stream.send(word)

async def deaf(stream):
    """Waits for the rest of a message that began, drain or not."""
    await stream.receive_exactly(1)
    await stream.send(b"hello")
    await stream.receive_exactly(5)

async def closed(stream):
    await stream.send(b"bye")
    await stream.aclose()
    await stream.aclose()
    try:
        await stream.receive()
    except RuntimeError as error:
        print(error, flush=True)

async def told(stream):
    await stream.send(repr(tuple(stream.info)).encode())

count = 0

async def counting(stream):
    global count
    count += 1
    await stream.send(b"%d" % count)

visits = contextvars.ContextVar("visits", default=0)

async def context(stream):
    visits.set(visits.get() + 1)
    await stream.send(b"%d" % visits.get())

async def pid(stream):
    await stream.send(b"%d\\n" % os.getpid())
    await stream.receive()

async def crash(stream):
    if await stream.receive() == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    await stream.send(b"alive")

async def printing(stream):
    print("served", await stream.receive())
    await stream.aclose()

def plain(stream):
    for chunk in stream:
        stream.send(chunk)

def several(stream):
    head = stream.receive_exactly(2)
    line = stream.receive_until(b";")
    stream.send(line + head + stream.receive(1))
    stream.send_eof()
    stream.close()

async def needing(stream):
    await globals()[(await stream.receive()).decode()]()

async def sleeping():
    await asyncio.sleep(1)

async def yielding():
    await asyncio.sleep(0)

async def waiting():
    await asyncio.Event().wait()

async def timing():
    async with asyncio.timeout(1):
        pass

async def grouping():
    async with asyncio.TaskGroup():
        pass

async def asking():
    asyncio.get_running_loop()

async def future():
    loop = asyncio.new_event_loop()
    try:
        await loop.create_future()
    finally:
        loop.close()

async def own_mistake(stream):
    await stream.receive()
    try:
        asyncio.Lock().release()
    except RuntimeError:
        raise RuntimeError("my own") from None

async def misuse(stream):
    await stream.receive()
    asyncio.Lock().release()

async def caught(stream):
    try:
        await asyncio.sleep(0)
    except RuntimeError as error:
        await stream.send(type(error).__name__.encode())

def running_own_loop(stream):
    stream.send(asyncio.run(asyncio.sleep(0, b"done")))
'''


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = tmp_path / "app.py"
    path.write_text(HANDLERS)
    return str(path)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=["tcp", "unix"])
def bind(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "tcp://127.0.0.1:0" if request.param == "tcp" else f"unix://{tmp_path}/app.sock"


def ask(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    return exactly(client, len(data))


def everything(client: socket.socket) -> bytes:
    data = bytearray()
    while chunk := client.recv(65536):
        data += chunk
    return bytes(data)


def children(pid: int) -> list[int]:
    """Those of a process, zombies included."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("the system does not tell which children a process has")
    return [
        int(child)
        for listing in Path(f"/proc/{pid}/task").glob("*/children")
        for child in listing.read_text().split()
    ]


def test_says_which_model_it_is(app: str, model: str, bind: str) -> None:
    with served(f"{app}:echo", "--model", model, binds=(bind,)) as server:
        backend = ", backend epoll" if ", backend epoll" in server.lines[0] else ""
        assert (backend != "") == (model == "loop") or sys.platform != "linux"
        details = f"(model {model}{backend}, pid {server.pid})"
        assert server.lines[0].partition(" (")[2] == details[1:]
        assert server.stop() == 0
    assert not Path(bind.removeprefix("unix://")).exists()


def test_bytes_keep_their_order_both_ways(app: str, model: str, bind: str) -> None:
    data = random.Random(1).randbytes(5_000_000)
    with served(f"{app}:echo", "--model", model, binds=(bind,)) as server:
        with server.connect() as client:
            sender = threading.Thread(target=send_and_end, args=(client, data))
            sender.start()
            answer = everything(client)
            sender.join()
        assert hashlib.sha256(answer).digest() == hashlib.sha256(data).digest()
        assert server.stop() == 0
        assert "ERROR" not in server.log


def send_and_end(client: socket.socket, data: bytes) -> None:
    """In pieces of every size."""
    sizes = random.Random(2)
    at = 0
    while at < len(data):
        size = sizes.choice((1, 10, 1_000, 100_000))
        client.sendall(data[at : at + size])
        at += size
    client.shutdown(socket.SHUT_WR)


def test_a_half_closed_client_gets_its_answer(app: str, model: str, bind: str) -> None:
    with served(f"{app}:whole", "--model", model, binds=(bind,)) as server:
        for word in (b"first", b"second", b""):
            with server.connect() as client:
                client.sendall(word)
                client.shutdown(socket.SHUT_WR)
                assert everything(client) == word
        assert server.stop() == 0


def test_a_server_may_close_its_half(app: str, model: str, bind: str) -> None:
    with served(f"{app}:closing", "--model", model, binds=(bind,)) as server:
        with server.connect() as client:
            assert everything(client) == b"bye"
            client.sendall(b"and you?")
            client.shutdown(socket.SHUT_WR)
        server.wait_until_logged("send_eof() was called")
        assert server.stop() == 0


def test_a_closed_stream_says_so(app: str, model: str) -> None:
    with served(f"{app}:closed", "--model", model) as server:
        with server.connect() as client:
            assert everything(client) == b"bye"
        assert server.process.stdout is not None
        while "is closed: aclose() was called" not in server.process.stdout.readline():
            pass
        assert server.stop() == 0


@pytest.mark.parametrize("model", SIDE_BY_SIDE)
def test_many_clients_are_served_side_by_side(app: str, model: str, bind: str) -> None:
    options = ("--pool-size", "100") if model == "pool" else ()
    with served(f"{app}:echo", "--model", model, *options, binds=(bind,)) as server:
        with ExitStack() as opened:
            clients = [opened.enter_context(server.connect()) for _ in range(100)]
            for round_ in range(3):
                for number, client in enumerate(clients):
                    client.sendall(b"%d %d;" % (round_, number))
                for number, client in reversed(list(enumerate(clients))):
                    expected = b"%d %d;" % (round_, number)
                    assert exactly(client, len(expected)) == expected
        assert server.stop() == 0


def test_the_iterative_model_serves_in_order(app: str, bind: str) -> None:
    with served(f"{app}:lines", "--model", "iterative", binds=(bind,)) as server:
        with ExitStack() as opened:
            clients = [opened.enter_context(server.connect()) for _ in range(50)]
            # The last asks first; each is answered once all before it have left.
            for client in reversed(clients):
                client.sendall(b"hello\n")
            for client, following in zip(clients, [*clients[1:], None], strict=True):
                assert exactly(client, 6) == b"hello\n"
                if following is not None:
                    following.setblocking(False)
                    with pytest.raises(BlockingIOError):
                        following.recv(1)
                    following.settimeout(PATIENCE)
                client.close()
        assert server.stop() == 0
        assert "ERROR" not in server.log


@pytest.mark.parametrize("model", ["loop", "process", "thread", "pool"])
def test_what_is_over_the_bound_waits_for_its_turn(app: str, model: str, bind: str) -> None:
    options = ["--max-connections", "2", *(["--pool-size", "2"] if model == "pool" else [])]
    with served(f"{app}:lines", "--model", model, *options, binds=(bind,)) as server:
        with ExitStack() as opened:
            clients = [opened.enter_context(server.connect()) for _ in range(3)]
            for client in clients:
                client.sendall(b"hello\n")
            assert exactly(clients[1], 6) == b"hello\n"
            assert exactly(clients[0], 6) == b"hello\n"
            clients[2].setblocking(False)
            with pytest.raises(BlockingIOError):
                clients[2].recv(1)
            clients[2].settimeout(PATIENCE)
            clients[0].close()
            assert exactly(clients[2], 6) == b"hello\n"
        assert server.stop() == 0


def test_a_pool_s_queue_is_served_when_a_thread_is_free(app: str) -> None:
    with served(f"{app}:lines", "--model", "pool", "--pool-size", "1") as server:
        with server.connect() as first, server.connect() as queued, server.connect() as waiting:
            for client in (first, queued, waiting):
                client.sendall(b"hello\n")
                assert exactly(client, 6) == b"hello\n"
                client.close()
        assert server.stop() == 0


def test_listeners_take_turns(app: str, tmp_path: Path) -> None:
    binds = ("tcp://127.0.0.1:0", f"unix://{tmp_path}/app.sock")
    with served(f"{app}:lines", "--model", "iterative", binds=binds) as server:
        with ExitStack() as opened:
            for line in (0, 1):
                for _ in range(3):
                    client = opened.enter_context(server.connect(line))
                    client.sendall(b"hello\n")
                    client.shutdown(socket.SHUT_WR)
            with server.connect(1) as client:
                assert ask(client, b"hello\n") == b"hello\n"
        assert server.stop() == 0


def test_an_abrupt_reset_harms_nobody(app: str, model: str) -> None:
    with served(f"{app}:lines", "--model", model) as server:
        for _ in range(5):
            rude = server.connect()
            assert ask(rude, b"hello\n") == b"hello\n"
            reset(rude)
        with server.connect() as client:
            assert ask(client, b"hello\n") == b"hello\n"
        assert server.stop() == 0
        assert "ERROR" not in server.log


def test_a_client_that_leaves_while_it_is_answered_harms_nobody(app: str, model: str) -> None:
    with served(f"{app}:echo", "--model", model) as server:
        rude = server.connect()
        rude.settimeout(0.2)
        with pytest.raises(TimeoutError):
            while True:
                rude.sendall(bytes(1_000_000))  # Reads nothing: the server is stuck in its answer.
        reset(rude)
        with server.connect() as client:
            assert ask(client, b"hello") == b"hello"
        assert server.stop() == 0
        assert "ERROR" not in server.log


def test_a_failing_handler_ends_its_own_connection_only(app: str, model: str, bind: str) -> None:
    with served(f"{app}:failing", "--model", model, binds=(bind,)) as server:
        with server.connect() as victim:
            victim.sendall(b"fail")
            if model != "iterative":
                with server.connect() as bystander:
                    assert everything(victim) == b""
                    assert ask(bystander, b"hello") == b"hello"
            assert everything(victim) == b""
        with server.connect() as later:
            assert ask(later, b"hello") == b"hello"
        assert server.stop() == 0
        assert server.log.count("ERROR neverblock.server: handler failed, closing ") == 1
        assert "LookupError: no such word" in server.log


def test_a_signal_ends_idle_connections_at_once(app: str, model: str, bind: str) -> None:
    options = ("--model", model, "--drain-timeout", "600")
    with served(f"{app}:echo", *options, binds=(bind,)) as server:
        with server.connect() as client, server.connect() as silent:
            assert ask(client, b"hello") == b"hello"
            if model != "iterative":  # There it waits in the kernel, and is refused.
                assert ask(silent, b"hello") == b"hello"
            assert server.stop() == 0
            assert client.recv(10) == b""
        assert "SIGTERM: draining" in server.log
        assert "abort" not in server.log
        assert "ERROR" not in server.log


def test_a_message_that_has_begun_is_finished(app: str, model: str, bind: str) -> None:
    options = ("--model", model, "--drain-timeout", "600")
    with served(f"{app}:sized", *options, binds=(bind,)) as server:
        with server.connect() as client:
            client.sendall((1000).to_bytes(4, "big") + bytes(400))
            assert client.recv(1) == b"?"
            server.send()
            server.wait_until_logged("draining")
            client.sendall(bytes(600))
            assert exactly(client, 4) == (1000).to_bytes(4, "big")
        assert server.wait() == 0
        assert "abort" not in server.log


def test_a_handler_at_work_is_let_finish(app: str, model: str, bind: str) -> None:
    options = ("--model", model, "--drain-timeout", "600")
    with served(f"{app}:slow", *options, binds=(bind,)) as server:
        with server.connect() as client:
            client.sendall(b"answer")
            assert exactly(client, 4) == b"wait"
            assert server.stop() == 0
            assert everything(client) == b"answer"
        assert "abort" not in server.log


def test_stragglers_are_reset_and_counted(app: str, model: str, bind: str) -> None:
    options = ("--model", model, "--drain-timeout", "0.2")
    with served(f"{app}:deaf", *options, binds=(bind,)) as server:
        with ExitStack() as opened:
            number = 1 if model == "iterative" else 3
            for _ in range(number):
                client = opened.enter_context(server.connect())
                client.sendall(b"half")
                assert exactly(client, 5) == b"hello"
            left = children(server.pid)
            assert server.stop() == 3
        plural = "" if number == 1 else "s"
        expected = f"drain timeout of 0.2 s is over: {number} connection{plural} reset"
        assert expected in server.log
        assert "ERROR" not in server.log
        assert not any(Path(f"/proc/{pid}").exists() for pid in left)


def test_a_second_signal_does_not_wait(app: str, model: str) -> None:
    with served(f"{app}:deaf", "--model", model, "--drain-timeout", "600") as server:
        with server.connect() as client:
            client.sendall(b"half")
            assert exactly(client, 5) == b"hello"
            server.send()
            server.wait_until_logged("draining")
            assert server.stop() == 3
        assert "told to stop again: 1 connection reset" in server.log


def test_nothing_is_left_of_connections_that_ended(app: str, model: str) -> None:
    descriptors = Path("/proc/{}/fd")
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("the system does not tell which descriptors a process has")
    with served(f"{app}:lines", "--model", model) as server:
        place = Path(str(descriptors).format(server.pid))

        def visit(times: int) -> int:
            for _ in range(times):
                with server.connect() as client:
                    assert ask(client, b"hello\n") == b"hello\n"
                    client.shutdown(socket.SHUT_WR)
                    assert everything(client) == b""
            return len(os.listdir(place))

        least = visit(5)
        # One that just ended may still be counted.
        while (now := visit(20)) > least + 1:
            least = min(least, now)
        while children(server.pid):
            pass
        assert server.stop() == 0


def test_what_is_known_of_a_connection(app: str, model: str, bind: str) -> None:
    with served(f"{app}:told", "--model", model, binds=(bind,)) as server:
        with server.connect() as client:
            scheme, peer, local, named, backend, _ = eval(everything(client))
            if bind.startswith("tcp"):
                assert peer == "{}:{}".format(*client.getsockname())
        assert server.url == f"{scheme}://{local}"
        assert scheme == bind.partition(":")[0]
        if scheme == "unix":
            assert peer == f"unix (pid {os.getpid()})"
        assert named == model
        assert bool(backend) == (model == "loop")


def test_each_connection_has_a_context_of_its_own(app: str, model: str) -> None:
    options = ("--pool-size", "1") if model == "pool" else ()
    with served(f"{app}:context", "--model", model, *options) as server:
        for _ in range(3):
            with server.connect() as client:
                assert everything(client) == b"1"


def test_memory_is_shared_unless_each_has_a_process(app: str, model: str) -> None:
    with served(f"{app}:counting", "--model", model) as server:
        counts = []
        for _ in range(3):
            with server.connect() as client:
                counts.append(int(everything(client)))
    assert counts == ([1, 1, 1] if model == "process" else [1, 2, 3])


def test_a_process_that_crashes_costs_its_own_client_only(app: str) -> None:
    with served(f"{app}:crash", "--model", "process") as server:
        with server.connect() as bystander, server.connect() as victim:
            victim.sendall(b"crash")
            with pytest.raises(ConnectionResetError):
                everything(victim)
            bystander.sendall(b"go on")
            assert everything(bystander) == b"alive"
        server.wait_until_logged("died by SIGSEGV")
        assert server.stop() == 0


def test_processes_are_of_their_own_and_reaped(app: str) -> None:
    with served(f"{app}:pid", "--model", "process") as server:
        with ExitStack() as opened:
            clients = [opened.enter_context(server.connect()) for _ in range(10)]
            pids = [int(client.makefile().readline()) for client in clients]
            assert sorted(pids) == sorted(children(server.pid))
        while children(server.pid):
            pass
        assert server.stop() == 0


def test_what_is_printed_is_printed_once(app: str) -> None:
    with served(f"{app}:printing", "--model", "process") as server:
        for _ in range(3):
            with server.connect() as client:
                client.sendall(b"x")
                assert everything(client) == b""
        assert server.stop() == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == "served b'x'\n" * 3


@pytest.mark.parametrize("model", WITHOUT_LOOP)
def test_a_plain_function_will_do(app: str, model: str, bind: str) -> None:
    with served(f"{app}:plain", "--model", model, binds=(bind,)) as server:
        with server.connect() as client:
            assert ask(client, b"hello") == b"hello"
            client.shutdown(socket.SHUT_WR)
            assert everything(client) == b""
        assert server.stop() == 0
    with served(f"{app}:several", "--model", model, binds=(bind,)) as server:
        with server.connect() as client:
            client.sendall(b"12line;x")
            assert everything(client) == b"line;12x"
        assert server.stop() == 0


def test_a_plain_function_is_refused_by_the_loop_model(app: str) -> None:
    refused = neverblock("serve", f"{app}:plain")
    assert refused.returncode == 2
    assert f"{app}:plain is not async; write `async def plain(stream)`" in refused.stderr
    assert "or serve it with --offload or --model thread" in refused.stderr


NEEDS = {
    "sleeping": "asyncio.sleep",
    "yielding": "asyncio.sleep",
    "waiting": "asyncio.Event.wait",
    "timing": "asyncio.timeout",
    "grouping": "asyncio.TaskGroup.__aenter__",
    "asking": "the running loop",
    "future": "a Future",
}


@pytest.mark.parametrize("model", WITHOUT_LOOP)
def test_what_needs_a_loop_is_named(app: str, model: str) -> None:
    source = HANDLERS.splitlines()
    with served(f"{app}:needing", "--model", model) as server:
        for handler in NEEDS:
            with server.connect() as client:
                client.sendall(handler.encode())
                assert everything(client) == b""
        assert server.stop() == 0
    lines = [line for line in server.log.splitlines() if "EventLoopNeededError: " in line]
    for line, (handler, awaited) in zip(lines, NEEDS.items(), strict=True):
        place, _, rest = line.partition("EventLoopNeededError: ")[2].partition(" awaits ")
        assert rest.startswith(f"{awaited}, which needs an event loop; the {model} model has none")
        assert "call what blocks instead" in rest
        file, _, number = place.rpartition(":")
        assert file == app
        start = source.index(f"async def {handler}():")
        assert start < int(number) - 1 <= start + 4


@pytest.mark.parametrize("handler", ["own_mistake", "misuse"])
def test_a_handler_s_own_errors_stay_its_own(app: str, handler: str) -> None:
    with served(f"{app}:{handler}", "--model", "thread") as server:
        with server.connect() as client:
            client.sendall(b"go")
            assert everything(client) == b""
        assert server.stop() == 0
        assert "\nRuntimeError: " in server.log
        assert "EventLoopNeededError" not in server.log


@pytest.mark.parametrize("model", WITHOUT_LOOP)
def test_the_error_is_raised_where_the_await_is(app: str, model: str) -> None:
    with served(f"{app}:caught", "--model", model) as server, server.connect() as client:
        assert everything(client) == b"EventLoopNeededError"


@pytest.mark.parametrize("model", WITHOUT_LOOP)
def test_a_plain_function_may_run_a_loop_of_its_own(app: str, model: str) -> None:
    with served(f"{app}:running_own_loop", "--model", model) as server, server.connect() as client:
        assert everything(client) == b"done"


@pytest.fixture
def declaring(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "sharing.py").write_text(
        'models = ("thread", "pool", "loop")\nasync def handle(stream): pass\n'
    )
    return str(tmp_path / "sharing.py")


def test_a_module_may_declare_its_models(declaring: str, model: str) -> None:
    if model in SHARING:
        with served(f"{declaring}:handle", "--model", model) as server:
            assert server.stop() == 0
        return
    refused = neverblock("serve", f"{declaring}:handle", "--model", model)
    assert refused.returncode == 2
    assert (
        f"{declaring}:handle cannot be served under the {model} model: its module declares "
        f"models = ('thread', 'pool', 'loop'); choose one of these, like --model thread"
    ) in refused.stderr


@pytest.mark.parametrize(
    ("declared", "message"),
    [('("loop", "magic")', "there is no 'magic'"), ("{}", None), ('("a", "b")', None)],
)
def test_what_is_declared_must_make_sense(
    tmp_path: Path, declared: str, message: str | None
) -> None:
    path = tmp_path / "declaring.py"
    path.write_text(f"models = {declared}\nasync def handle(stream): pass\n")
    if message is None:
        with served(f"{path}:handle") as server:
            assert server.stop() == 0
        return
    refused = neverblock("serve", f"{path}:handle")
    assert refused.returncode == 2
    assert message in refused.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "magic"), "'magic' is not one of"),
        (("--model", "pool", "--pool-size", "0"), "0 is not in the range"),
        (("--model", "pool", "--max-connections", "5"), "make --pool-size 5 at most"),
        (
            ("--model", "iterative", "--max-connections", "5"),
            "has no use for it; leave it out",
        ),
        (("--model", "thread", "--offload"), "has no use for it; leave it out"),
        (("--pool-size", "5"), "the loop model has a pool only with offload"),
        (("--model", "thread", "--backend", "poll"), "--backend is for the loop model"),
    ],
)
def test_a_wrong_option_is_refused_with_the_cure(
    app: str, options: tuple[str, ...], message: str
) -> None:
    refused = neverblock("serve", f"{app}:echo", *options)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_the_log_of_python_s_own_checks_is_empty(app: str, model: str) -> None:
    with served(f"{app}:echo", "--model", model, python=("-X", "dev")) as server:
        with server.connect() as client, server.connect() as rude:
            assert ask(client, b"hello") == b"hello"
            reset(rude)
            assert server.stop(signal.SIGINT) == 0
        assert "Warning" not in server.log
        assert "SIGINT: draining" in server.log


def test_a_server_of_the_process_model_is_one_process(app: str) -> None:
    """Its children end with it, whatever their clients do."""
    options = ("--model", "process", "--drain-timeout", "0")
    with served(f"{app}:deaf", *options) as server, server.connect() as client:
        client.sendall(b"half")
        assert exactly(client, 5) == b"hello"
        [child] = children(server.pid)
        assert server.stop() == 3
        with pytest.raises(ConnectionResetError):
            everything(client)
    assert not Path(f"/proc/{child}").exists()
