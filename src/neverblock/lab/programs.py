"""Programs of the lab's own that measure something by themselves, each in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from neverblock.errors import LabError
from neverblock.lab.server import clean, pinned


def run(module: str, request: Mapping[str, Any], *, cores: frozenset[int], timeout: float) -> Any:
    """``python -m MODULE REQUEST`` on these cores: the JSON it prints. Raises LabError."""
    with pinned(cores):
        process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(request)],
            env=clean(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise LabError(f"{module} gave no result within {timeout:g} s") from None
    finally:
        process.kill()
        process.communicate()
    if process.returncode:
        lines = errors.strip().splitlines()
        raise LabError(lines[-1] if lines else f"{module} ended with {process.returncode}")
    return json.loads(output)
