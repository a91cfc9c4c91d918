"""What the system has too little of: descriptors, and ports to come from."""

from __future__ import annotations

import asyncio
import json
import socket
import sys

import pytest

from neverblock.load import Plan, run
from neverblock.load.connecting import Place, connect, port_range, sources
from tests.load import stubs
from tests.load.stubs import stub
from tests.servers.serving import neverblock
from tests.servers.tools import tool, tried


def test_the_soft_limit_of_descriptors_is_raised() -> None:
    tool("prlimit")
    wrapper = tried("prlimit", "--nofile=80:1000")
    with stub(stubs.echo) as address:
        done = neverblock(
            *("load", f"tcp://{address}", "--connections", "100", "--idle", "50"),
            *("--duration", "0.3", "--json", "-", "--quiet"),
            wrapper=wrapper,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(done.stdout)
    assert data["idle"]["opened"] == 50


def test_the_hard_limit_of_descriptors_is_told_with_the_cure() -> None:
    tool("prlimit")
    wrapper = tried("prlimit", "--nofile=100:100")
    done = neverblock("load", "tcp://127.0.0.1:1", "--connections", "200", wrapper=wrapper)
    assert done.returncode == 2
    assert done.stderr == (
        "neverblock: --connections: 200 connections in 1 process need 264 descriptors each, and "
        "the hard limit is 100; raise it (ulimit -Hn 264), or share them between 6 processes\n"
    )


def test_many_connections_come_from_several_addresses() -> None:
    place = Place(socket.AF_INET, ("127.0.0.1", 7000))
    assert sources(place, 1000) == [None]
    if sys.platform == "linux":
        many = sources(place, 3 * port_range())
        assert len(many) >= 3
        assert many[:2] == ["127.0.0.1", "127.0.0.2"]
        # Past half of its ports an address is slow to come from.
        assert len(sources(place, port_range() // 2)) == 2
        # Others come from those before.
        assert sources(place, 1000, 3) == ["127.0.0.4"]
        assert sources(place, port_range() // 2, 300) == ["127.0.1.45", "127.0.1.46"]
    assert sources(Place(socket.AF_INET, ("192.0.2.1", 7000)), 10**6) == [None]
    assert sources(Place(socket.AF_UNIX, "/x"), 10**6) == [None]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.1 is the only one")
def test_a_connection_comes_from_where_it_is_told_to() -> None:
    async def peer() -> str:
        with socket.create_server(("127.0.0.1", 0)) as server:
            sock = await connect(Place(socket.AF_INET, server.getsockname()), "127.0.0.3", 60)
            accepted, (host, _) = server.accept()
            sock.close()
            accepted.close()
        return str(host)

    assert asyncio.run(peer()) == "127.0.0.3"


def test_a_crowd_stays_while_others_ask() -> None:
    with stub(stubs.echo) as address:
        plan = Plan(target=f"tcp://{address}", connections=5, idle=300, processes=2, duration=0.3)
        result = run(plan)
    assert result.errors == {}
    assert (result.idle.opened, result.idle.closed) == (300, 0)
