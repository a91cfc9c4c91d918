"""What is said to write instead, by the line and the cause."""

from __future__ import annotations

import asyncio

import pytest

import neverblock
from neverblock.watch import Cause, Stall, Watch
from neverblock.watch.hints import CAUSES, hint

DATA = "one function that connects"


@pytest.mark.parametrize(
    ("source", "cause", "cure"),
    [
        ("time.sleep(0.5)", Cause.SLEEPING, "await asyncio.sleep(0.5)"),
        ("[await work(), sleep(delay)]", Cause.SLEEPING, "await asyncio.sleep(delay)"),
        ("await work(time.sleep(1))", Cause.SLEEPING, "await asyncio.sleep(1)"),
        ("subprocess.run(command)", Cause.SLEEPING, "create_subprocess_exec"),
        ("os.system(command)", Cause.SLEEPING, "create_subprocess_shell"),
        ("text = os.popen(command).read()", Cause.IO, "create_subprocess_shell"),
        ("subprocess.getoutput(command)", Cause.IO, "create_subprocess_shell"),
        ("page = requests.get(url)", Cause.IO, "an asynchronous HTTP client"),
        ("page = urllib.request.urlopen(url)", Cause.IO, "an asynchronous HTTP client"),
        ("socket.getaddrinfo(host, 80)", Cause.IO, "loop.getaddrinfo"),
        ("socket.gethostbyaddr(address)", Cause.IO, "loop.getnameinfo"),
        ("name = socket.getfqdn()", Cause.IO, "loop.getnameinfo"),
        ("rows = connection.execute(query)", Cause.SLEEPING, DATA),
        ("answer = input()", Cause.IO, "await asyncio.to_thread(input)"),
    ],
)
def test_a_call_that_waits_has_its_cure(source: str, cause: Cause, cure: str) -> None:
    assert cure in hint(source, cause)


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("self.requests.sort()", Cause.GIL_HELD),
        ("self.requests.get(name)", Cause.LOCK),
        ("requests.sort()", Cause.IO),
        ("page = json.loads(requests.get(url).text)", Cause.GIL_HELD),
        ("answer = self.input(question)", Cause.IO),
        ("self.queue.Queue(3)", Cause.LOCK),
        ("await session.execute(query)", Cause.IO),
        ("rows = await self.pool.of(user, 1).execute(query)", Cause.IO),
        ("rows = list(await sessions[0].execute(query))", Cause.UNKNOWN),
        ("await sleep(1)", Cause.SLEEPING),
        ("time.sleep(0.1)", Cause.GIL),
        ("time.sleep(0.1)", Cause.NOT_SCHEDULED),
    ],
)
def test_what_only_looks_like_it_has_the_cure_of_its_cause(source: str, cause: Cause) -> None:
    assert hint(source, cause) == CAUSES.get(cause, "")


def test_a_query_that_computes_without_the_gil_has_the_cure_of_a_query() -> None:
    assert DATA in hint("connection.execute(query)", Cause.COMPUTING, "GIL released")
    assert DATA not in hint("session.execute(query)", Cause.COMPUTING)


def test_a_list_that_is_sorted_is_no_request() -> None:
    found: list[Stall] = []

    class Crowd:
        def __init__(self) -> None:
            self.requests = list(range(500_000))

        def sort(self) -> None:
            self.requests.sort(key=str)

    crowd = Crowd()

    def sorts() -> list[Stall]:
        return [stall for stall in found if stall.source == "self.requests.sort(key=str)"]

    async def main() -> None:
        while not sorts():  # again where the watch had no CPU meanwhile
            asyncio.get_running_loop().call_soon(crowd.sort)
            await asyncio.sleep(0.005)

    neverblock.run(main(), watch=Watch(threshold=0.05, on_stall=found.append))
    assert "HTTP" not in sorts()[0].hint
