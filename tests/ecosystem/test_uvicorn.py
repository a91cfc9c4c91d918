"""uvicorn serves a starlette application on our loop to httpx."""

import asyncio
import os
import signal
import socket

import httpx
import pytest
import uvicorn

from .processes import PATIENCE, python, started
from .starlette_app import app

RUNNING = r"Uvicorn running on (http://[\d.:]+)"


@pytest.fixture
def served(backend):
    """uvicorn by its command line; gives the process and the address."""
    command = python(
        "-m", "uvicorn", "starlette_app:app", "--port", "0", "--loop", "neverblock:new_event_loop"
    )
    with started(*command, until=RUNNING, NEVERBLOCK_BACKEND=backend) as (process, address):
        yield process, address


def test_the_command_line_serves_and_stops(served, backend):
    process, address = served
    with httpx.Client(base_url=address, timeout=PATIENCE) as client:
        assert client.get("/which").json() == {"loop": "neverblock.loop", "backend": backend}
        body = os.urandom(1_000_000)
        assert client.post("/reverse", content=body).content == body[::-1]
        assert client.get("/count", params={"to": 1000}).text.split() == [
            str(number) for number in range(1000)
        ]
        assert client.get("/thread").text == "from a thread"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert "application stops" in output
    assert "Traceback" not in output
    # uvicorn raises the signal again once it has shut down.
    assert process.returncode in (0, -signal.SIGTERM)


def test_many_clients_at_once(served):
    _, address = served

    async def main():
        async with httpx.AsyncClient(base_url=address, timeout=PATIENCE) as client:
            answers = await asyncio.gather(
                *(client.post("/reverse", content=f"number {number}") for number in range(100))
            )
        assert [answer.text for answer in answers] == [
            f"number {number}"[::-1] for number in range(100)
        ]

    asyncio.run(main())


def test_served_from_a_program(loop_factory, backend):
    """Server and client on one loop of ours."""

    async def main():
        listener = socket.create_server(("127.0.0.1", 0))
        host, port = listener.getsockname()
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=PATIENCE) as client:
            assert (await client.get("/which")).json()["backend"] == backend
            answers = await asyncio.gather(
                *(client.get("/count", params={"to": 100}) for _ in range(20))
            )
            assert {len(answer.text.split()) for answer in answers} == {100}
        server.should_exit = True
        await serving

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_uvicorn_run_takes_the_factory_by_name(backend):
    program = (
        "import uvicorn; uvicorn.run('starlette_app:app', port=0, loop='neverblock:new_event_loop')"
    )
    with started(*python("-c", program), until=RUNNING, NEVERBLOCK_BACKEND=backend) as (_, address):
        assert httpx.get(f"{address}/which", timeout=PATIENCE).json()["backend"] == backend
