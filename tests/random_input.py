"""Random command lines and damaged YAML documents, each made from a number, so that all can be repeated."""

from __future__ import annotations

import copy
import datetime
import random
from collections.abc import Sequence
from typing import Any

import click
import yaml

GARBAGE = (
    "",
    " ",
    "-",
    "--",
    "*",
    "[",
    "?x]",
    "a,b,,c",
    "ünïcødé/集合",
    "\udcff\udc80",
    "a\nb",
    "' OR 1=1 --",
    "=",
    "x=",
    "=x",
    "a:b:c=d",
    "999999999999999999999999999999",
    "-1",
    "1e400",
    "nan",
    "/nowhere/at/all",
    "nosuch://scheme/x",
    "memory://x",
    "{",
    "%s%n",
    "x" * 5000,
    "../..",
    "@nofile",
    "T'2020-13-45'",
    ".",
)
WHERE = (
    "instrument='HSC'",
    "visit=903334",
    "instrument='HSC' AND visit IN (903334, 903336..903344:2)",
    "visit.timespan OVERLAPS (T'2013-06-17', T'2013-06-18')",
    "instrument='HSC' AND detector.purpose = 'SCIENCE' OR NOT detector = 5",
    "visit = ",
    "AND",
    "visit=='x'",
    "((((((((",
    "visit IN (",
    "visit = 'abc' AND instrument = 5",
    "detector / 0 = 1",
    "POINT(1, 2) OVERLAPS visit.region",
    "glob(visit.name, 'V*')",
    "visit.timespan.begin > T'nonsense'",
    "metric.run = 'u/me/1/new' AND metric.ingest_date > T'2020-01-01'",
    "nothing.at.all.here = NULL",
    "visit = 99999999999999999999999999",
    "'HSC' = instrument AND exposure < -1e308",
)
NAMES = (
    "u/me/1",
    "u/me/1/new",
    "u/me/1/old",
    "tagged",
    "HSC/calib",
    "HSC/calib/biases",
    "elsewhere",
    "u/*",
    "metric",
    "bias",
    "summary",
    "raw",
    "met*",
    "metric.component",
    "visit",
    "detector",
    "exposure",
    "instrument",
    "visit detector",
    "instrument=HSC",
    "visit=903334",
    "StructuredDataDict",
    "HSC",
    "2013-06-17T00:00:00",
    "2013-06-17",
    "0",
    "1",
    "-visit",
    "timespan.begin",
    "red",
    "isr:doDark=False",
    "isr",
)


def command_line(
    number: int, group: click.Group, files: Sequence[str], leave_out: Sequence[str]
) -> list[str]:
    """Return the words of a random command line.

    Parameters
    ----------
    number : `int`
        Which one.
    group : `click.Group`
        Program.
    files : sequence of `str`
        Names of the repository (first) and of other files to give.
    leave_out : sequence of `str`
        Commands not to use.
    """
    rng = random.Random(number)
    context = click.Context(group)
    names = [n for n in group.list_commands(context) if n not in leave_out]
    name = rng.choice(names)
    command = group.get_command(context, name)
    assert command is not None

    def value(option: click.Parameter) -> str:
        if option.name in ("where", "repo") and rng.random() < 0.8:
            return rng.choice(WHERE) if option.name == "where" else files[0]
        if isinstance(option.type, click.Choice) and rng.random() < 0.8:
            return str(rng.choice(list(option.type.choices)))
        pool = rng.choices((NAMES, GARBAGE, WHERE, files), (10, 5, 1, 3))[0]
        return rng.choice(pool)

    words = [name]
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            count = rng.randrange(4) if parameter.nargs < 0 else int(rng.random() < 0.97)
            words += [value(parameter) for _ in range(count)]
        elif (parameter.required and rng.random() < 0.9) or rng.random() < 0.15:
            spelling = rng.choice([*parameter.opts, *parameter.secondary_opts])
            if isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count):
                words.append(spelling)
            else:
                words += [spelling, value(parameter)]
    if rng.random() < 0.05:
        words.insert(rng.randrange(len(words)), rng.choice(GARBAGE))
    return words


def damaged(number: int, text: str) -> str:
    """Return a YAML document with some of it replaced, removed, renamed or cut.

    Parameters
    ----------
    number : `int`
        Which damage.
    text : `str`
        Sound document.
    """
    rng = random.Random(number)
    if rng.random() < 0.3:
        letters = list(text)
        for _ in range(rng.randrange(1, 6)):
            place = rng.randrange(len(letters))
            letters[place : place + rng.randrange(20)] = rng.choice(
                [
                    "",
                    ":",
                    "- ",
                    "{",
                    "[",
                    "\n",
                    "\t",
                    "&a",
                    "*a",
                    "!!python/object:os.system",
                    "<<: ",
                    "'",
                    "\x07",
                ]
            )
        return "".join(letters)
    document = yaml.load(text, Loader=_PlainLoader)
    for _ in range(rng.randrange(1, 4)):
        document = _changed(rng, document)
    return yaml.dump(document, sort_keys=False, allow_unicode=True)


class _PlainLoader(yaml.SafeLoader):
    """Reads documents with tags of their own as plain values."""


def _untagged(loader: Any, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


_PlainLoader.add_multi_constructor("!", _untagged)


def _changed(rng: random.Random, node: Any) -> Any:
    if isinstance(node, dict) and node and rng.random() < 0.85:
        key = rng.choice(list(node))
        what = rng.random()
        if what < 0.1:
            return {k: v for k, v in node.items() if k != key}
        if what < 0.2:
            return {
                (rng.choice([f"{key}x", 5, None, "", True]) if k == key else k): v for k, v in node.items()
            }
        if what < 0.25:
            return {**node, rng.choice(["zzz", 7, "imports", "tasks"]): _some(rng)}
        return {k: _changed(rng, v) if k == key else v for k, v in node.items()}
    if isinstance(node, list) and node and rng.random() < 0.85:
        place = rng.randrange(len(node))
        if rng.random() < 0.15:
            return node[:place] + node[place + 1 :]
        if rng.random() < 0.1:
            return [*node, copy.deepcopy(node[place])]
        return [_changed(rng, v) if i == place else v for i, v in enumerate(node)]
    return _some(rng)


def _some(rng: random.Random) -> Any:
    return rng.choice(
        [
            None,
            True,
            "",
            "text",
            "HSC",
            -1,
            0,
            10**30,
            float("nan"),
            float("inf"),
            1.5,
            [],
            {},
            [None],
            [[1, 2], {}],
            {"a": {"b": [1]}},
            {5: None},
            datetime.date(2020, 1, 1),
            "x" * 3000,
            "ünïcødé",
            "../../etc",
        ]
    )
