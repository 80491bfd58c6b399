"""The command group all three programs share: lazy subcommands, one place for errors, log options.

`butler --help` must answer before numpy or SQLAlchemy would have been imported, so a group knows its
subcommands by dotted name and loads only the module of the one that runs.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from keyword import iskeyword
from typing import Any, TypeVar

import click

from .. import __version__
from ..errors import ButlerDaskError, did_you_mean
from .log_lines import LogSettings, start_logging
from .options_file import expanded_words, options_file_option

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are used.

    Parameters
    ----------
    lazy : mapping of `str` to `tuple` [`str`, `str`]
        Module (dotted, below this package) and one-line help of each subcommand; the function is the
        subcommand's name with underscores (one more at the end of a keyword of Python).
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the subcommands' names, sorted.

        Parameters
        ----------
        ctx : `click.Context`
            Not looked at.

        Returns
        -------
        names : `list` [`str`]
            As typed.
        """
        return sorted(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a subcommand, or `None`.

        Parameters
        ----------
        ctx : `click.Context`
            Not looked at.
        cmd_name : `str`
            As typed.

        Returns
        -------
        command : `click.Command` or `None`
            With the option ``--options-file``.
        """
        if cmd_name not in self.lazy:
            return None
        import importlib

        module = importlib.import_module(f".{self.lazy[cmd_name][0]}", __package__)
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(module, f"{name}_" if iskeyword(name) else name)
        if not any("--options-file" in p.opts for p in command.params):
            command.params.append(options_file_option())
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand; a mistyped one gets the nearest match.

        Parameters
        ----------
        ctx : `click.Context`
            Context of the group.
        args : `list` [`str`]
            Words from the subcommand on.

        Returns
        -------
        name, command, rest
            As click has them.
        """
        name = args[0]
        if name not in self.lazy and not name.startswith("-"):
            ctx.fail(f"No such command {name!r}.{did_you_mean(name, self.lazy)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing them.

        Parameters
        ----------
        ctx : `click.Context`
            Context of the group.
        formatter : `click.HelpFormatter`
            Takes the list.
        """
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.lazy[name][1]) for name in self.list_commands(ctx)])


def log_options(function: F) -> F:
    """Add the log options, which work before and after the subcommand alike.

    Parameters
    ----------
    function : callable
        A command or group.

    Returns
    -------
    function : callable
        The same, with the options.
    """
    options = (
        click.option(
            "--log-level",
            "log_levels",
            multiple=True,
            metavar="[COMPONENT=]LEVEL",
            help="Log level of a component or of all: CRITICAL, ERROR, WARNING, INFO, VERBOSE, DEBUG.",
            callback=_remember,
            expose_value=False,
        ),
        click.option(
            "--long-log",
            is_flag=True,
            default=None,
            help="Longer log lines: time, task label and data ID, source line.",
            callback=_remember,
            expose_value=False,
        ),
        click.option(
            "--log-file",
            "log_files",
            multiple=True,
            type=click.Path(dir_okay=False),
            help="Also write the log to a file; a name ending in .json gets JSON records.",
            callback=_remember,
            expose_value=False,
        ),
        click.option(
            "--log-label",
            "log_labels",
            multiple=True,
            metavar="KEY=VALUE[,..]",
            help="Labels to add to every record of the log (its long lines and JSON).",
            callback=_remember,
            expose_value=False,
        ),
        click.option(
            "--progress/--no-progress",
            default=None,
            help="Whether to show on a terminal how far long work is.",
            callback=_remember,
            expose_value=False,
        ),
        click.option(
            "--log-tty/--no-log-tty",
            default=None,
            help="Whether to log to the terminal.",
            callback=_remember,
            expose_value=False,
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep a log option's value on the root context: given at either place it counts."""
    settings: dict[str, Any] = ctx.find_root().ensure_object(dict)
    assert param.name is not None
    if value in (None, ()):
        return
    if isinstance(value, tuple):
        settings[param.name] = (*settings.get(param.name, ()), *value)
    else:
        settings[param.name] = value
    if ctx.parent is not None:
        start_logging(LogSettings.of(settings))


def program(name: str, help_text: str, lazy: Mapping[str, tuple[str, str]]) -> LazyGroup:
    """Make the group of one program.

    Parameters
    ----------
    name : `str`
        Program name.
    help_text : `str`
        First paragraph of its help.
    lazy : mapping
        As `LazyGroup`.

    Returns
    -------
    group : `LazyGroup`
        To be run by `run_program`.
    """

    @click.group(
        name=name,
        cls=LazyGroup,
        lazy=lazy,
        help=help_text,
        context_settings=CONTEXT_SETTINGS,
        no_args_is_help=True,
    )
    @click.version_option(__version__, prog_name=name)
    @log_options
    @click.pass_context
    def group(ctx: click.Context) -> None:
        start_logging(LogSettings.of(ctx.ensure_object(dict)))

    assert isinstance(group, LazyGroup)
    return group


def _show_traceback() -> None:
    """Print the traceback of the error at hand if the user asked for it."""
    if logging.getLogger().isEnabledFor(logging.DEBUG) or os.environ.get("BUTLER_DASK_TRACEBACK"):
        import traceback

        traceback.print_exc()


def run_program(group: click.Group, argv: Sequence[str] | None = None) -> None:
    """Run a program and exit: 0 on success, 1 on failure, 2 on wrong usage.

    Errors of this package are one message on standard error; the traceback comes with ``--log-level DEBUG``
    or ``BUTLER_DASK_TRACEBACK=1``. Ctrl-C prints ``Aborted!``.

    Parameters
    ----------
    group : `click.Group`
        The program.
    argv : sequence of `str`, optional
        Arguments; those of the process when not given.
    """
    try:
        words = expanded_words(sys.argv[1:] if argv is None else argv)
        code = group.main(args=words, prog_name=group.name, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Aborted!", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # The reader (head, less) has gone; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except SystemExit as ended:
        if ended.code in (None, 0):
            # No command ends itself so: a configuration file or a module of a task did, and nothing was done.
            _show_traceback()
            click.echo(
                "Error: Code that the command ran (a configuration file, a module of a task) called "
                "sys.exit(); what was asked for is not done. BUTLER_DASK_TRACEBACK=1 shows where.",
                err=True,
            )
            sys.exit(1)
        raise
    except Exception as error:  # the one place where whatever went wrong becomes a message
        _show_traceback()
        text = str(error)
        if not isinstance(error, (ButlerDaskError, OSError, ImportError)):
            text = (
                f"{type(error).__name__}: {text}. This is a fault of the program, not of the request; "
                "--log-level DEBUG shows where."
            )
        click.echo(f"Error: {text}", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
