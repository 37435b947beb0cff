"""The program ``sigprop``: finds its commands by entry point and turns errors into statuses.

A command is a plain function with type hints, registered under the entry-point group
``sigprop.commands``. One that takes the options of a family (``--beta`` of a scheme) says
so with the attribute ``open_options = True`` and receives them in ``ctx.args``.

Exit statuses are those of `sigprop.errors`: 0 done, 1 a verdict against, 2 bad input,
3 inconclusive, 4 numbers that stopped being finite; and 130, as a shell expects, for a run
that the user interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any

import typer

from sigprop import __version__
from sigprop.errors import SigpropError
from sigprop.registry import did_you_mean

__all__ = ["main"]

GROUP = "sigprop.commands"
INTERRUPTED = 130
# What the parser of values says, and in our words.
_TAKES = {"valid integer": "an integer", "valid number": "a number"}


def _about() -> None:
    """How signals fare in random deep networks: simulated exactly in law, and fast.

    The main job is: sigprop simulate --depth 1000 --scheme fixup. Every command has --help;
    sigprop --version prints the version.
    """


def _program() -> Any:
    """Return the command group, one command for every entry point.

    The group itself has no options, for typer loads pydantic (0.1 s) to read one that is not
    given; and it prints plain help, for the decorated one takes another 0.2 s.
    """
    app = typer.Typer(
        add_completion=False,
        callback=_about,
        rich_markup_mode=None,
        context_settings={"help_option_names": []},
    )
    for entry in sorted(entry_points(group=GROUP)):
        command = entry.load()
        settings: dict[str, Any] = {"help_option_names": ["--help"]}
        if getattr(command, "open_options", False):
            settings |= {"allow_extra_args": True, "ignore_unknown_options": True}
        app.command(entry.name, context_settings=settings)(command)
    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without '±' is no reason to fail
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        if arguments[0] == "--version":
            print(f"sigprop {__version__}")
            return 0
        program = _program()
        if arguments[0] == "--help":
            print(typer.Context(program, info_name="sigprop").get_help())
            return 0
        status = program(args=arguments, prog_name="sigprop", standalone_mode=False)
        sys.stdout.flush()
    except SigpropError as error:
        return _fail(str(error), error.exit_status)
    except MemoryError as error:  # an estimate was too low; a checkpoint stands, if there is one
        return _fail(
            f"not enough memory: {str(error).rstrip('.') or 'an array does not fit'}. Use a "
            "smaller depth or width, fewer inputs or recorded layers (--layers), or fewer "
            "--workers.",
            SigpropError.exit_status,
        )
    except typer.TyperException as error:
        return _fail(_usage(error), error.exit_code)
    except typer.Abort:
        return _fail("interrupted.", INTERRUPTED)
    except (BrokenPipeError, SystemExit):  # typer answers the first by the second
        # The reader left (as in `| head`). Nothing is wrong, and nobody listens any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status if isinstance(status, int) else 0


def _usage(error: typer.TyperException) -> str:
    """Say what was wrong with the words of the command line; an option with its nearest."""
    option = getattr(error, "option_name", None)
    if option is None or not hasattr(error, "possibilities"):
        message = error.format_message().replace("Value error, ", "")
        for parsed, takes in _TAKES.items():
            if parsed in message:
                message = f"{message.partition(': ')[0]}: the option takes {takes}."
        return message[:1].lower() + message[1:]
    context = getattr(error, "ctx", None)
    known = ["--help", "--version"]
    if context is not None and context.parent is not None:
        known = [name for parameter in context.command.params for name in parameter.opts]
    return f"there is no option {option}.{did_you_mean(option, known)} See --help."


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
