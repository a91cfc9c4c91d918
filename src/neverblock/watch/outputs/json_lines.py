"""A file with a JSON object on each line: one when a stall begins, one when it is over.

- Each line is one write(2) with O_APPEND: several processes may share the file.
- The file is opened for each line: it may be moved away at any time, a new one is made, and a
  forked child inherits no descriptor.
"""

import asyncio
import json
import os
from datetime import UTC, datetime

from neverblock.watch.outputs import files
from neverblock.watch.outputs.output import Output
from neverblock.watch.report import fields, of_place
from neverblock.watch.stall import Stall


class JsonLines(Output):
    """Appends to a file. Raises OutputError where that is not possible.

    The keys are those of the log's fields, with ``time`` (ISO 8601, UTC), ``pid``,
    ``stall_stack``, innermost first, and ``stall_samples`` where the stall is over.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = files.absolute(path)
        files.check_appendable(self._path)

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        os.close(files.append_to(self._path))  # It is there even if nothing stalls.

    def tell(self, stall: Stall) -> None:
        line = line_of(stall)
        descriptor = files.append_to(self._path)
        try:
            written = os.write(descriptor, line)
        finally:
            os.close(descriptor)
        if written < len(line):
            raise OSError(f"{self._path}: only {written} of {len(line)} bytes could be written")


def line_of(stall: Stall) -> bytes:
    """The line, with its end; ASCII alone."""
    event = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "pid": os.getpid(),
        **fields(stall),
        "stall_stack": [of_place(place) for place in stall.stack],
    }
    if stall.over:
        event["stall_samples"] = [
            {
                "seconds": round(sample.seconds, 4),
                "count": sample.count,
                "stack": [of_place(place) for place in sample.stack],
            }
            for sample in stall.samples
        ]
    return json.dumps(event).encode() + b"\n"
