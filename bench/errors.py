"""What can go wrong in a measurement."""


class BenchError(Exception):
    """A measurement failed; the message says what and, where there is one, the cure."""


class Unsupported(BenchError):
    """This loop cannot run this row; the message says why."""
