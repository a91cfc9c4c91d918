"""What a server logs, to standard error: lines for people, or a JSON object on each."""

import logging
import time
from typing import Final

FORMATS: Final = ("text", "json")

TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"

#: The fields that every line has, by the names of logging's; what a call adds comes after them.
FIELDS: Final = {
    "asctime": "time",
    "levelname": "level",
    "name": "logger",
    "message": "message",
    "process": "pid",
}


def set_up(log_format: str) -> None:
    """Log to standard error from now on; a forked child does the same."""
    handler = logging.StreamHandler()
    handler.setFormatter(json_formatter() if log_format == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def json_formatter() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter  # Not needed elsewhere, and not small.

    formatter = JsonFormatter(" ".join(f"%({name})s" for name in FIELDS), rename_fields=FIELDS)
    # ISO 8601, UTC.
    formatter.converter = time.gmtime
    formatter.default_time_format = "%Y-%m-%dT%H:%M:%S"
    formatter.default_msec_format = "%s.%03dZ"
    return formatter
