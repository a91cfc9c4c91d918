"""Where a server's watch tells of stalls, from the server's settings."""

from collections.abc import Callable
from functools import partial

from neverblock.errors import OutputError, SettingsError
from neverblock.watch import Annotations, Folded, JsonLines, MetricsFile, Output


def outputs(
    *,
    stall_log: str | None = None,
    stall_profile: str | None = None,
    stall_annotations: bool = False,
    metrics_file: str | None = None,
    several: bool = False,
) -> list[Output]:
    """``several`` processes have these settings. Raises SettingsError for what is not writable."""
    made: list[Output] = [Annotations(at_close=several)] if stall_annotations else []
    files: list[tuple[str, str | None, Callable[[str], Output]]] = [
        ("stall_log", stall_log, JsonLines),
        ("stall_profile", stall_profile, partial(Folded, per_process=several)),
        ("metrics_file", metrics_file, partial(MetricsFile, per_process=several)),
    ]
    for name, path, make in files:
        if path is not None:
            try:
                made.append(make(path))
            except (OutputError, ImportError) as error:
                raise SettingsError(name, str(error)) from None
    return made
