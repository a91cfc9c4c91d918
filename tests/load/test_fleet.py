"""Load by a fleet: real schedulers and workers, on one machine and on several hosts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.load import stubs
from tests.load.network import Host, leave_few_ports, network
from tests.load.stubs import stub
from tests.servers.serving import PATIENCE, neverblock, served

HANDLER = "examples/echo.py:handle"

#: Tells a line when requests are measured, and the result at the end.
CLIENT = """
import json, sys
from neverblock.load import Plan, run_on_fleet

def tell(progress):
    if progress.phase == "measuring" and progress.requests:
        print("measuring", flush=True)

plan = Plan(**json.loads(sys.argv[2]))
print(json.dumps(run_on_fleet(sys.argv[1], plan, tell).to_json()))
"""


def test_a_cluster_of_this_machine_shares_the_load() -> None:
    with served(HANDLER) as server:
        done = neverblock(
            "load", server.url, "--fleet", "local:2", "--connections", "5", "--idle", "3",
            "--rate", "200", "--duration", "1", "--json", "-",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["errors"] == {}
    assert result["client"]["processes"] == 2
    assert result["idle"] == {"asked": 3, "opened": 3, "closed": 0}
    assert result["requests"] == pytest.approx(200, abs=2)
    assert result["corrected"]


@pytest.mark.parametrize(
    ("fleet", "reason"),
    [
        ("somewhere", "write dask://HOST:PORT, local or local:N, not 'somewhere'"),
        ("local:2", "1 cannot be shared by 2 workers of 1 processes each; ask for 2 at least"),
        ("dask://127.0.0.1:1", "no scheduler answers at dask://127.0.0.1:1"),
    ],
)
def test_what_cannot_be_done_is_refused(fleet: str, reason: str) -> None:
    done = neverblock("load", "tcp://127.0.0.1:1", "--connections", "1", "--fleet", fleet)
    assert done.returncode == 2
    assert reason in done.stderr


def test_a_server_that_is_not_there_is_an_error_of_each_worker() -> None:
    done = neverblock(
        "load", "tcp://127.0.0.1:1", "--connections", "4", "--duration", "0.2", "--json", "-",
        "--fleet", "local:2",
    )  # fmt: skip
    assert done.returncode == 1
    assert json.loads(done.stdout)["errors"]["connection refused"] >= 4


def test_an_interrupt_at_the_terminal_leaves_the_figures_of_all_workers() -> None:
    stubs.asked.clear()
    with (
        stub(stubs.echo) as address,
        subprocess.Popen(
            [
                *(sys.executable, "-m", "neverblock", "load", f"tcp://{address}"),
                *("--fleet", "local:2", "--duration", "600", "--json", "-"),
            ],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            assert stubs.asked.wait(PATIENCE)
            os.killpg(process.pid, signal.SIGINT)
            said, shown = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 130, shown
    result = json.loads(said)
    assert (result["errors"], result["client"]["processes"]) == ({}, 2)
    assert result["interrupted"]
    assert "(ended early)" in shown


def test_workers_of_one_machine_do_not_take_each_others_ports() -> None:
    with network("host") as [host]:
        leave_few_ports(host)
        serving = host.start(
            "-m", "neverblock", "serve", HANDLER, "--bind", "tcp://127.0.0.1:7000",
            "--stall-threshold", "0", stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert serving.stdout is not None
            assert serving.stdout.readline().startswith("listening")
            # Each worker by itself would be content with one address, the same one.
            loading = host.start(
                "-m", "neverblock", "load", "tcp://127.0.0.1:7000", "--fleet", "local:3",
                "--connections", "3", "--idle", "255", "--duration", "0.2", "--json", "-",
                stdout=subprocess.PIPE,
            )  # fmt: skip
            said, shown = loading.communicate(timeout=PATIENCE)
        finally:
            end(serving)
    assert loading.returncode == 0, said + shown
    result = json.loads(said)
    assert result["errors"] == {}
    assert result["idle"] == {"asked": 255, "opened": 255, "closed": 0}


#: A cluster that outlives the run on it. What comes after says whether its workers are free.
OUTLIVING = """
import resource, subprocess, sys
from distributed import Client, Event, LocalCluster
from neverblock.load import Plan, PlanError, run_on_fleet

def lower():
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))

def hold():
    Event("held").set()
    Event("enough").wait()

with (
    LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
    Client(cluster) as client,
):
    fleet = cluster.scheduler_address.replace("tcp", "dask")
    workers = sorted(client.nthreads())
    left = workers
"""
FREE = """
    print(client.gather([client.submit(pow, 2, 5, workers=[each], pure=False) for each in left]))
"""

#: One worker cannot do its share, and says so; the other one's is open, and waits for the start.
REFUSED = """
    client.run(lower, workers=workers[1:])
    try:
        run_on_fleet(fleet, Plan(target=sys.argv[1], connections=80, duration=600))
    except PlanError as error:
        print(error.name)
"""

#: One worker has no time for its share yet. The other one's is open, and whoever asked is killed.
KILLED = """
    held = client.submit(hold, workers=workers[1:])
    Event("held").wait()
    asking = subprocess.Popen([sys.executable, "-c", sys.argv[1], fleet, sys.argv[2]])
    input()
    asking.kill()
    asking.wait()
    left = workers[:1]
"""
ENOUGH = """
    Event("enough").set()
    held.result()
"""


def test_workers_are_free_again_when_another_ones_share_is_refused() -> None:
    with served(HANDLER) as server:
        done = subprocess.run(
            [sys.executable, "-c", OUTLIVING + REFUSED + FREE, server.url],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert done.stdout == "connections\n[32, 32]\n", done.stderr


def test_a_worker_is_free_again_when_whoever_asked_is_killed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        plan = {"target": f"tcp://127.0.0.1:{server.getsockname()[1]}", "connections": 2}
        with subprocess.Popen(
            [sys.executable, "-c", OUTLIVING + KILLED + FREE + ENOUGH, CLIENT, json.dumps(plan)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            try:
                with server.accept()[0]:
                    said, errors = process.communicate("opened\n", timeout=PATIENCE)
            finally:
                process.kill()
    assert said == "[32]\n", errors


def test_a_worker_that_is_killed_is_named_and_the_rest_of_the_run_kept(tmp_path: Path) -> None:
    with (
        network("boss", "server", "client", "worker-1", "worker-2", "worker-3") as hosts,
        cluster(*hosts, folder=tmp_path) as processes,
    ):
        lost = hosts[4]
        asking = measuring(hosts)
        processes[2].kill()
        told, errors = asking.communicate(timeout=90)
    assert asking.returncode == 0, errors
    result = json.loads(told.splitlines()[-1])
    assert result["errors"] == {"worker lost": 1}
    assert lost.address in result["examples"]["worker lost"]
    assert result["requests"] > 0
    assert result["client"]["processes"] == 2


def test_a_scheduler_that_goes_ends_the_run(tmp_path: Path) -> None:
    with (
        network("boss", "server", "client", "worker") as hosts,
        cluster(*hosts, folder=tmp_path) as (scheduler, _),
    ):
        asking = measuring(hosts)
        scheduler.kill()
        _, errors = asking.communicate(timeout=90)
    assert asking.returncode == 1
    assert f"the scheduler at dask://{hosts[0].address}:8786 has gone" in errors


def measuring(hosts: list[Host]) -> subprocess.Popen[str]:
    """A client that has begun to measure."""
    boss, server, client, *_ = hosts
    options = {
        "target": f"tcp://{server.address}:7000",
        "connections": 30,
        "duration": 5.0,
        "timeout": 5.0,
    }
    asking = client.start(
        "-c", CLIENT, f"dask://{boss.address}:8786", json.dumps(options), stdout=subprocess.PIPE
    )
    assert asking.stdout is not None
    assert asking.stderr is not None
    line = asking.stdout.readline()
    assert line == "measuring\n", line + asking.stderr.read()
    return asking


def test_a_scheduler_without_workers_is_refused(tmp_path: Path) -> None:
    with network("boss", "server", "client") as hosts, cluster(*hosts, folder=tmp_path):
        asking = hosts[2].start(
            "-c", CLIENT, f"dask://{hosts[0].address}:8786", '{"target": "tcp://127.0.0.1:1"}',
            stdout=subprocess.PIPE,
        )  # fmt: skip
        _, errors = asking.communicate(timeout=60)
    assert "no worker has joined" in errors


@contextmanager
def cluster(
    boss: Host, server: Host, client: Host, *workers: Host, folder: Path
) -> Iterator[tuple[subprocess.Popen[str], ...]]:
    """A scheduler, an echo server and workers, each on its host, all of them ready.

    The processes of scheduler and workers.
    """
    with ExitStack() as stack:
        serving = server.start(
            "-m", "neverblock", "serve", HANDLER, "--bind", f"tcp://{server.address}:7000",
            "--stall-threshold", "0", stdout=subprocess.PIPE,
        )  # fmt: skip
        stack.callback(end, serving)
        assert serving.stdout is not None
        assert serving.stdout.readline().startswith("listening")
        leading = boss.start(
            "-m", "distributed.cli.dask_scheduler", "--host", boss.address, "--port", "8786",
            "--no-dashboard", stdout=subprocess.PIPE,
        )  # fmt: skip
        stack.callback(end, leading)
        wait_for(leading, "Scheduler at:")
        started = []
        for index, worker in enumerate(workers):
            process = worker.start(
                "-m", "distributed.cli.dask_worker", f"tcp://{boss.address}:8786",
                "--host", worker.address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
                "--local-directory", str(folder / str(index)), stdout=subprocess.PIPE,
            )  # fmt: skip
            stack.callback(end, process)
            started.append(process)
        for process in started:
            wait_for(process, "Starting established connection")
        yield leading, *started


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Until it logs that; what it says afterwards fits in its pipe."""
    assert process.stderr is not None
    said = ""
    while text not in (line := process.stderr.readline()):
        said += line
        assert line, said


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
