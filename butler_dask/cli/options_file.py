"""Options from files: ``-@ FILE`` with a YAML mapping for each subcommand, and ``@FILE`` with words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from ..errors import UNREADABLE, did_you_mean


def expanded_words(words: Sequence[str]) -> list[str]:
    """Return command-line words with each ``@FILE`` replaced by the words in that file.

    A file has words as a shell takes them, quotes and ``#`` comments included, over any number of lines.
    What follows ``-@`` or ``--options-file`` is a file name, not such a word; nor is anything after ``--``.

    Parameters
    ----------
    words : sequence of `str`
        As typed.

    Returns
    -------
    expanded : `list` [`str`]
        In the same order.

    Raises
    ------
    click.UsageError
        If a word is not text, a file cannot be read, or a quotation in it does not end.
    """
    for word in words:
        if not word.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise click.UsageError(f"{word!r} is not text in UTF-8.")
    out: list[str] = []
    literal = False
    for before, word in zip(["", *words], words, strict=False):
        literal = literal or before == "--"
        if literal or len(word) < 2 or word[0] != "@" or before in ("-@", "--options-file"):
            out.append(word)
        else:
            out += _words_of(word[1:])
    return out


def _words_of(name: str) -> list[str]:
    import shlex

    try:
        with open(name, encoding="utf-8") as stream:
            return shlex.split(stream.read(), comments=True)
    except (OSError, ValueError) as error:
        raise click.UsageError(f"Options cannot be read from {name!r} (of '@{name}'): {error}") from error


def _read(ctx: click.Context, param: click.Parameter, name: str | None) -> None:
    """Make the values in an options file the defaults of the command's options."""
    if name is None:
        return
    import yaml

    try:
        with open(name, encoding="utf-8") as stream:
            document = yaml.safe_load(stream)
    except (OSError, yaml.YAMLError, *UNREADABLE) as error:
        raise click.BadParameter(f"{name!r} cannot be read: {error}", param=param) from error
    command = ctx.command
    if not isinstance(document, Mapping):
        raise click.BadParameter(f"{name!r} does not map subcommands to options", param=param)
    values = document.get(command.name) or {}
    if not isinstance(values, Mapping):
        raise click.BadParameter(f"{name!r}: {command.name}: is not a mapping of options", param=param)
    known = {
        spelling.lstrip("-").replace("-", "_"): option
        for option in command.params
        if isinstance(option, click.Option)
        for spelling in (*option.opts, option.name or "")
    }
    defaults: dict[str, Any] = {}
    for key, value in values.items():
        option = known.get(str(key).lstrip("-").replace("-", "_"))
        if option is None or option.name is None:
            hint = did_you_mean(str(key).lstrip("-").replace("-", "_"), known)
            raise click.BadParameter(f"{name!r}: {command.name} has no option {key!r}.{hint}", param=param)
        defaults[option.name] = _value(option, value, name)
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _value(option: click.Option, value: Any, name: str) -> Any:
    """Return a value of YAML as the command line would give it."""
    if option.multiple:
        return [str(v) for v in value] if isinstance(value, list) else [str(value)]
    if isinstance(value, (list, Mapping)):
        raise click.BadParameter(f"{name!r}: {option.opts[0]} takes one value, not {value!r}")
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def options_file_option() -> click.Option:
    """Return the ``-@`` option, which is read before the others of its command.

    Returns
    -------
    option : `click.Option`
        To be added to a command's parameters.
    """
    return click.Option(
        ["-@", "--options-file"],
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_read,
        help="YAML file of options: subcommand names, below each its options. What is typed wins.",
    )
