"""Clients that hold a connection, however many, and whatever they have to say."""

from __future__ import annotations

import subprocess

from neverblock.lab.clients import crowd
from neverblock.lab.experiment import bench
from neverblock.lab.server import serving
from neverblock.lab.settings import ECHO, Settings
from neverblock.lab.ways import Way
from tests.load.network import leave_few_ports, network
from tests.servers.serving import PATIENCE

#: More clients than an address has ports, and one more.
MANY = """
from neverblock.lab.clients import crowd
from neverblock.lab.experiment import bench
from neverblock.lab.server import serving
from neverblock.lab.settings import ECHO, Settings
from neverblock.lab.ways import Way

place, count = bench(Settings()), 255
with (
    serving(ECHO, Way("loop").options(count), cores=place.server_cores) as server,
    crowd(server.port, count, cores=place.client_cores) as clients,
):
    print(clients.answered, clients.failure or "all well", clients.probe() > 0)
"""


def test_a_message_may_be_longer_than_an_argument_or_the_buffers_on_its_way() -> None:
    place, count = bench(Settings()), 2
    with (
        serving(ECHO, Way("loop").options(count), cores=place.server_cores) as server,
        crowd(
            server.port, count, cores=place.client_cores, message=b"x" * 2**24, patience=60.0
        ) as clients,
    ):
        assert (clients.answered, clients.failure) == (count, "")
        assert clients.probe() > 0


def test_there_may_be_more_than_an_address_has_ports() -> None:
    with network("host") as [host]:
        leave_few_ports(host)
        ran = host.start("-c", MANY, stdout=subprocess.PIPE)
        said, told = ran.communicate(timeout=PATIENCE)
    assert (said, ran.returncode) == ("255 all well True\n", 0), told
