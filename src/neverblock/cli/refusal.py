"""What a command cannot do: one line with what, where and the cure; exit code 2."""

import click


class Refusal(click.ClickException):
    """Its message says the cure, so that the help is not offered as one."""

    exit_code = 2


def one_line(error: click.ClickException) -> str:
    """The line for it; a wrong option has its cure in the help."""
    context = getattr(error, "ctx", None)
    where = context.command_path if context else "neverblock"
    message = " ".join(error.format_message().split())
    cure = "" if isinstance(error, Refusal) else f" (see {where} --help)"
    return f"{where}: {message}{cure}"
