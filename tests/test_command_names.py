"""Commands that messages, docstrings and documents send people to: each is there, with the options named."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import butler_dask
from butler_dask.cli.butler import butler
from butler_dask.cli.dask_submit import dask_submit
from butler_dask.cli.pipetask import pipetask

ROOT = Path(butler_dask.__file__).parent
PROGRAMS = {"butler": butler, "pipetask": pipetask, "dask-submit": dask_submit}
MENTION = re.compile(r"`(butler|pipetask|dask-submit) ([a-z][a-z-]*+)(?!\*)([^`]*)`")


def mentions() -> Iterator[tuple[str, str, str, str]]:
    """Yield file, program, subcommand and the rest of each command in backquotes."""
    for path in sorted(ROOT.rglob("*.py")):
        # Texts of messages go on in the next line's string.
        text = re.sub(r"\"\s*\n\s*f?\"", "", path.read_text())
        for program, subcommand, rest in MENTION.findall(text):
            if not subcommand.endswith("-"):  # a whole family: query-...
                yield str(path.relative_to(ROOT)), program, subcommand, rest


def test_commands_are_mentioned():
    assert len(list(mentions())) > 20


@pytest.mark.parametrize("program", list(PROGRAMS))
def test_every_command_that_is_mentioned_is_there(program):
    group = PROGRAMS[program]
    context = click.Context(group)
    for file, name, subcommand, rest in mentions():
        if name != program:
            continue
        command = group.get_command(context, subcommand)
        assert command is not None, f"{file}: {program} {subcommand}"
        options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        for option in re.findall(r"--[a-z][a-z-]*", rest):
            assert option in options, f"{file}: {program} {subcommand} {option}"
