"""The exception tree, and its drawing."""

import re

from butler_dask import errors


def test_tree_at_the_head_of_the_module_shows_every_class_below_its_parents():
    drawn: dict[str, tuple[str, ...]] = {}
    path: list[str] = []
    for line in re.findall(r"(?m)^ {4}.+$", errors.__doc__ or ""):
        name, _, builtins = line.strip().partition(": ")
        depth = (len(line) - len(line.lstrip())) // 4 - 1
        path[depth:] = [name]
        parent = path[depth - 1] if depth else "Exception"
        drawn[name] = (parent, *builtins.split(", ")) if builtins else (parent,)
    known = {
        name: tuple(base.__name__ for base in kind.__bases__)
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.ButlerDaskError)
    }
    assert drawn == known
