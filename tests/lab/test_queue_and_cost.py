"""What the lab says of the listen queue, and of what a client costs, is what the kernel does."""

from neverblock.lab.experiment import bench
from neverblock.lab.experiments import load
from neverblock.lab.settings import Settings


def test_the_second_client_of_an_iterative_server_waits_in_a_queue_of_known_length() -> None:
    experiment = load("listen-queue")
    place = bench(Settings())
    found = {
        metric.name: metric.value
        for metric in experiment.measure({"model": "iterative", "backlog": 8}, place)
    }
    assert found["first client waits"] < found["second client waits"]
    assert found["second client waits"] >= 1.0
    assert found["connections queued"] == 9  # One more than was asked for (listen(2), Linux).


def test_the_second_client_of_a_loop_is_answered_while_the_first_stays() -> None:
    found = {
        metric.name: metric.value
        for metric in load("listen-queue").measure(
            {"model": "loop", "backlog": 64}, bench(Settings())
        )
    }
    assert found["second client waits"] < 1.0


def test_a_client_costs_a_thread_more_than_a_loop() -> None:
    place = bench(Settings())
    memory = {
        model: metric.value
        for model in ("loop", "thread")
        for metric in load("client-cost").measure({"model": model, "clients": 200}, place)
        if metric.name == "memory"
    }
    assert memory["thread"] > 2 * memory["loop"] > 0
