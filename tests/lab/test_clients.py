"""Clients that hold a connection, whatever they have to say."""

from __future__ import annotations

from neverblock.lab.clients import crowd
from neverblock.lab.experiment import bench
from neverblock.lab.server import serving
from neverblock.lab.settings import ECHO, Settings
from neverblock.lab.ways import Way


def test_a_message_may_be_longer_than_an_argument_or_the_buffers_on_its_way() -> None:
    place, count = bench(Settings()), 2
    with (
        serving(ECHO, Way("loop").options(count), cores=place.server_cores) as server,
        crowd(
            server.port, count, cores=place.client_cores, message=b"x" * 2**24, patience=60.0
        ) as clients,
    ):
        assert (clients.answered, clients.failure) == (count, "")
