"""What workers tell of their loops."""

from __future__ import annotations

import os
import signal

from neverblock.lab.clients import crowd
from neverblock.lab.experiment import bench
from neverblock.lab.server import serving
from neverblock.lab.settings import ECHO, Settings
from neverblock.lab.ways import WORKERS, Way

CLIENTS = 20


def test_the_counts_of_all_workers_are_added_up() -> None:
    place = bench(Settings())
    with serving(ECHO, Way("workers").options(CLIENTS), cores=place.server_cores) as server:
        before = server.last_told()[-1][1]
        with crowd(server.port, CLIENTS, cores=place.client_cores) as clients:
            assert clients.answered == CLIENTS
            server.tree.wait_rest()
            after = server.last_told()[-1][1]
        # Each of them came by the channel of its worker, and said something.
        assert after["events_out"] - before["events_out"] >= CLIENTS
        assert after["waits"] > before["waits"] > WORKERS


def test_a_worker_that_does_not_answer_makes_no_wrong_sum() -> None:
    place = bench(Settings())
    with serving(ECHO, Way("workers").options(CLIENTS), cores=place.server_cores) as server:
        worker = server.tree.pids()[1]
        os.kill(worker, signal.SIGSTOP)
        assert server.last_told()[-1][1] == {}
        os.kill(worker, signal.SIGCONT)
        assert server.last_told()[-1][1]["waits"] > 0
