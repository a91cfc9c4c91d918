"""Where stalls are told beside the log: files, metrics, annotations. One small contract: Output."""

from neverblock.watch.outputs.annotations import Annotations
from neverblock.watch.outputs.folded import Folded
from neverblock.watch.outputs.json_lines import JsonLines
from neverblock.watch.outputs.opentelemetry import OpenTelemetry
from neverblock.watch.outputs.output import Output
from neverblock.watch.outputs.prometheus import MetricsFile, Prometheus

__all__ = [
    "Annotations",
    "Folded",
    "JsonLines",
    "MetricsFile",
    "OpenTelemetry",
    "Output",
    "Prometheus",
]
