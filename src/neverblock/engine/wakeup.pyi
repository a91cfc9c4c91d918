class Wakeup:
    """Ends a wait from another thread."""
