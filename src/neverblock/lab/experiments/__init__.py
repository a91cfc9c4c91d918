"""The experiments, by name; each file is one."""

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from neverblock.lab.experiment import Experiment

#: In the order of a report: name, and the module of that experiment.
NAMES: Final[Mapping[str, str]] = {
    "models": "models",
    "listen-queue": "listen_queue",
    "client-cost": "client_cost",
    "scanning": "scanning",
    "c10k": "c10k",
    "blocking-call": "blocking_call",
    "waiting-or-computing": "waiting_or_computing",
}


def load(name: str) -> Experiment:
    """The experiment of that name, one of NAMES."""
    experiment: Experiment = import_module(f"{__name__}.{NAMES[name]}").EXPERIMENT
    return experiment
