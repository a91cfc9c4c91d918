"""The chat example, under the models that it declares: who reads what, and who waits for nobody."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from neverblock.servers import MODELS
from tests.servers.proc import eventually, holdings
from tests.servers.serving import PATIENCE, Process, address_of, neverblock, served

CHAT = "examples/chat.py:handle"
SHARING = ("thread", "pool", "loop")


class Client:
    """Somebody at a terminal."""

    def __init__(self, server: Process, receive_buffer: int | None = None) -> None:
        family, address = address_of(server.url)
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(address)
        self._lines = self.sock.makefile("rb")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self.sock.close()

    def write(self, *lines: str) -> None:
        self.sock.sendall("".join(f"{line}\n" for line in lines).encode())

    def read(self) -> str:
        """The next line; "" at the end."""
        return self._lines.readline().decode().rstrip("\n")

    def enter(self, nickname: str) -> "Client":
        assert self.read() == "* your nickname?"
        self.write(nickname)
        assert self.read() == f"* welcome, {nickname}; /who tells who is here"
        return self


@pytest.fixture(params=SHARING)
def server(request: pytest.FixtureRequest) -> Iterator[Process]:
    with served(CHAT, "--model", request.param, "--drain-timeout", "600") as running:
        yield running
        assert running.stop() == 0
        assert "ERROR" not in running.log


def test_everybody_reads_what_one_writes(server: Process) -> None:
    with Client(server) as ann, Client(server) as bob:
        ann.enter("ann")
        bob.enter("bob")
        assert ann.read() == "* bob is here"
        ann.write("hello", "", "how are you?")
        for client in (ann, bob):
            assert client.read() == "<ann> hello"
            assert client.read() == "<ann> how are you?"
        bob.write("/who")
        assert bob.read() == "* here: ann, bob"


def test_who_leaves_is_told_however_they_leave(server: Process) -> None:
    with Client(server) as ann:
        ann.enter("ann")
        with Client(server) as bob:
            bob.enter("bob")
            assert ann.read() == "* bob is here"
            bob.sock.sendall(b"half a li")
        assert ann.read() == "* bob left"
        with Client(server) as bob:  # The nickname is free again.
            bob.enter("bob")
            assert ann.read() == "* bob is here"
            bob.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert ann.read() == "* bob left"


def test_a_nickname_is_one_s_own(server: Process) -> None:
    with Client(server) as ann, Client(server) as other:
        ann.enter("ann")
        assert other.read() == "* your nickname?"
        other.write("Ann", "", "two words", "x" * 21, "\x1b[31m", "bob")
        assert other.read() == "* Ann is taken; another one?"
        for _ in range(3):
            assert other.read().startswith("* a nickname is 1 to 20 letters without a space")
        assert other.read() == "* welcome, [31m; /who tells who is here"


def test_a_line_has_its_limit_and_plays_no_tricks(server: Process) -> None:
    with Client(server) as ann, Client(server) as bob:
        ann.enter("ann")
        bob.enter("bob")
        assert ann.read() == "* bob is here"
        bob.write("\x1b[2Jclean\a")
        assert ann.read() == "<bob> [2Jclean"
        bob.sock.sendall(b"x" * 1001)
        assert bob.read() == "<bob> [2Jclean"
        assert bob.read() == "* a line has at most 1000 bytes; good-bye"
        assert bob.read() == ""
        assert ann.read() == "* bob left"


def test_all_read_the_lines_in_one_order(server: Process) -> None:
    writers, lines = 4, 40  # As many as an outbox can hold, so that none is missed.

    def talk(client: Client) -> None:
        client.write(*map(str, range(lines)))

    with ExitStack() as opened:
        clients = [opened.enter_context(Client(server)) for _ in range(writers)]
        for number, client in enumerate(clients):
            client.enter(f"writer{number}")
        for number, client in enumerate(clients):
            for later in range(number + 1, writers):
                assert client.read() == f"* writer{later} is here"
        threads = [threading.Thread(target=talk, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        read = [[client.read() for _ in range(writers * lines)] for client in clients]
        for thread in threads:
            thread.join()
    assert all(each == read[0] for each in read)
    for number in range(writers):
        own = [line for line in read[0] if line.startswith(f"<writer{number}>")]
        assert own == [f"<writer{number}> {line}" for line in range(lines)]


def test_a_slow_reader_misses_lines_and_delays_nobody(server: Process) -> None:
    rounds, batch = 100, 100  # 10 MB in all: far more than anything between them can hold.
    with Client(server, receive_buffer=4096) as slow, Client(server) as quick:
        slow.enter("slow")
        quick.enter("quick")
        assert slow.read() == "* quick is here"
        text = "x" * 970
        for round_ in range(rounds):
            quick.write(*(f"{round_ * batch + number:06} {text}" for number in range(batch)))
            for number in range(batch):
                assert quick.read() == f"<quick> {round_ * batch + number:06} {text}"
        numbers: list[int] = []
        missed = 0
        while len(numbers) + missed < rounds * batch:
            line = slow.read()
            if line.startswith("* you missed "):
                missed += int(line.split()[3])
            else:
                assert line.startswith("<quick> ")
                assert line.endswith(text)
                numbers.append(int(line.split()[1]))
        assert missed > 0
        assert numbers == sorted(set(numbers))
        # And then it is part of the room as before.
        quick.write("still there?")
        assert slow.read() == "<quick> still there?"


def test_nothing_is_left_of_those_who_left(server: Process) -> None:
    before = holdings(server.pid)
    for round_ in range(3):
        with ExitStack() as opened:
            clients = [opened.enter_context(Client(server)) for _ in range(10)]
            for number, client in enumerate(clients):
                client.enter(f"client{round_}-{number}").write("hello")
    eventually(lambda: holdings(server.pid).within(before))


@pytest.mark.parametrize("model", [model for model in MODELS if model not in SHARING])
def test_models_without_one_memory_are_refused(model: str) -> None:
    refused = neverblock("serve", CHAT, "--model", model)
    assert refused.returncode == 2
    assert (
        f"{CHAT} cannot be served under the {model} model: its module declares "
        f"models = ('thread', 'pool', 'loop'); choose one of these, like --model thread"
    ) in refused.stderr
