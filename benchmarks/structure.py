"""How the source is built: entries, imports, circles, lines, large functions, classes that hand on.

    python benchmarks/structure.py [CHECKOUT ...] [--list]

Reads the source only and imports none of it. A column for each checkout (this one without arguments), so that
two states can be laid beside each other. ``--list`` names what is counted, for the last checkout.

How it is counted:

- An entry is a file or directory in ``butler_dask/``; a room is an entry of Python: a package or a module.
- Arrows are imports between rooms, those inside functions and for type checkers included (found by ``grimp``,
  which comes with ``import-linter``). A room stands one floor above the highest room it imports; rooms that
  import each other in a circle stand on one floor. Circles are groups of rooms, or of modules, each of which
  imports every other, be it through third ones.
- A function-level import is an import statement of our own modules inside a function. One has its reason
  beside it if a comment stands on its lines or the line above.
- Lines of code have anything but comments and documentation strings on them. The size of a function is its
  lines of code; its parameters are all but ``self`` and ``cls``.
- A method hands on if all it does is to call a method of a part of its object:
  ``return self._part.method(...)``, be it inside a ``with``. Counted are classes of five methods or more
  (special methods apart), more than half of which hand on.
"""

from __future__ import annotations

import argparse
import ast
import io
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeGuard

import grimp

PACKAGE = "butler_dask"
LARGE_FUNCTION = 100
MANY_PARAMETERS = 10
LARGE_FILE = 600
FEW_METHODS = 5
SHOWN = 10

AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.ClassDef | AnyFunction


@dataclass(frozen=True)
class Function:
    """A function or method.

    Parameters
    ----------
    place : `str`
        File, line and qualified name.
    lines : `int`
        Lines of code.
    parameters : `int`
        How many it takes, without ``self`` and ``cls``.
    """

    place: str
    lines: int
    parameters: int


@dataclass(frozen=True)
class HandingOn:
    """A class whose methods hand on.

    Parameters
    ----------
    place : `str`
        File, line and name.
    methods, handing_on : `int`
        How many methods it has, and how many of them hand on.
    """

    place: str
    methods: int
    handing_on: int


class SourceFile:
    """One file of the package.

    Parameters
    ----------
    path : `pathlib.Path`
        Where it is.
    name : `str`
        Its path below the package.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self.text = path.read_text()
        self.tree = ast.parse(self.text)
        self.line_count = self.text.count("\n")
        self._comments: set[int] = set()
        self._code: set[int] = set()
        nothing = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type == tokenize.COMMENT:
                self._comments.add(token.start[0])
            elif token.type not in nothing:
                self._code.update(range(token.start[0], token.end[0] + 1))
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Module | Definition):
                documentation = documentation_of(node)
                if documentation is not None:
                    self._code.difference_update(lines_of(documentation))

    @property
    def code_lines(self) -> int:
        """Lines with code."""
        return len(self._code)

    @cached_property
    def functions(self) -> list[Function]:
        """Functions and methods, those inside others too."""
        found = []
        for node, names in walk(self.tree, ()):
            if isinstance(node, AnyFunction):
                every = node.args
                given = [a.arg for a in (*every.posonlyargs, *every.args, *every.kwonlyargs)]
                given += [a.arg for a in (every.vararg, every.kwarg) if a is not None]
                parameters = len([n for n in given if n not in ("self", "cls")])
                lines = len(self._code.intersection(lines_of(node)))
                found.append(Function(self._place(node, names), lines, parameters))
        return found

    @cached_property
    def classes_handing_on(self) -> list[HandingOn]:
        """Classes most of whose methods only hand on."""
        found = []
        for node, names in walk(self.tree, ()):
            if isinstance(node, ast.ClassDef):
                methods = [m for m in node.body if isinstance(m, AnyFunction) and not is_special(m.name)]
                count = sum(map(hands_on, methods))
                if len(methods) >= FEW_METHODS and 2 * count > len(methods):
                    found.append(HandingOn(self._place(node, names), len(methods), count))
        return found

    @cached_property
    def inner_imports(self) -> list[tuple[str, bool]]:
        """Imports of our own modules inside functions, and whether a comment gives the reason."""
        found = []
        for function, names in walk(self.tree, ()):
            if not isinstance(function, AnyFunction):
                continue
            for node in walk_own(function):
                if is_import_of_ours(node):
                    beside = self._comments.intersection((node.lineno - 1, *lines_of(node)))
                    found.append((f"{self._place(node, names)}: {ast.unparse(node)}", bool(beside)))
        return found

    def _place(self, node: ast.stmt, names: tuple[str, ...]) -> str:
        return f"{self.name}:{node.lineno} {'.'.join(names)}"


def walk(tree: ast.AST, names: tuple[str, ...]) -> Iterator[tuple[ast.AST, tuple[str, ...]]]:
    """Give every node below one, with the names of the classes and functions it is or stands in."""
    for node in ast.iter_child_nodes(tree):
        inside = names
        if isinstance(node, Definition):
            inside = (*names, node.name)
        yield node, inside
        yield from walk(node, inside)


def walk_own(function: ast.AST) -> Iterator[ast.AST]:
    """Give the nodes of a function that are in no function inside of it."""
    for node in ast.iter_child_nodes(function):
        yield node
        if not isinstance(node, AnyFunction):
            yield from walk_own(node)


def lines_of(node: ast.stmt | ast.expr) -> range:
    """Return the numbers of the lines a node is on."""
    assert node.end_lineno is not None
    return range(node.lineno, node.end_lineno + 1)


def documentation_of(node: ast.Module | Definition) -> ast.Expr | None:
    """Return the documentation string of something."""
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return first if isinstance(first.value.value, str) else None
    return None


def is_special(name: str) -> bool:
    """Return whether a name is one of Python's own methods."""
    return name.startswith("__") and name.endswith("__")


def is_import_of_ours(node: ast.AST) -> TypeGuard[ast.Import | ast.ImportFrom]:
    """Return whether a node imports modules of the package."""
    if isinstance(node, ast.ImportFrom):
        return node.level > 0 or (node.module or "").split(".")[0] == PACKAGE
    return isinstance(node, ast.Import) and any(n.name.split(".")[0] == PACKAGE for n in node.names)


def hands_on(method: AnyFunction) -> bool:
    """Return whether all a method does is to call a method of a part of its object."""
    body = method.body[1:] if documentation_of(method) is not None else method.body
    if len(body) == 1 and isinstance(body[0], ast.With):
        body = body[0].body
    if len(body) != 1 or not isinstance(body[0], ast.Return | ast.Expr):
        return False
    value = body[0].value
    if isinstance(value, ast.YieldFrom):
        value = value.value
    if not isinstance(value, ast.Call):
        return False
    depth, target = 0, value.func
    while isinstance(target, ast.Attribute):
        depth, target = depth + 1, target.value
    return depth >= 2 and isinstance(target, ast.Name) and target.id == "self"


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return groups of more than one name each of which reaches every other (Tarjan's algorithm)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    pending: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        pending.append(name)
        for other in sorted(arrows.get(name, ())):
            if other not in number:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in pending:
                lowest[name] = min(lowest[name], number[other])
        if lowest[name] == number[name]:
            group = pending[pending.index(name) :]
            del pending[pending.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(arrows):
        if name not in number:
            visit(name)
    return sorted(found)


def floors(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return names by how far above the ground they stand, the lowest first."""
    group_of: dict[str, tuple[str, ...]] = {name: (name,) for name in arrows}
    for circle in circles(arrows):
        group_of.update({name: tuple(circle) for name in circle})
    heights: dict[tuple[str, ...], int] = {}

    def height(group: tuple[str, ...]) -> int:
        if group not in heights:
            below = {group_of[other] for name in group for other in arrows[name]} - {group}
            heights[group] = 1 + max(map(height, below), default=-1)
        return heights[group]

    standing: dict[int, list[str]] = {}
    for name in sorted(arrows):
        standing.setdefault(height(group_of[name]), []).append(name)
    return [standing[level] for level in sorted(standing)]


class Structure:
    """The source of the package in one checkout.

    Parameters
    ----------
    checkout : `pathlib.Path`
        Directory that holds ``butler_dask/``.
    """

    def __init__(self, checkout: Path) -> None:
        self.root = checkout.resolve() / PACKAGE
        if not self.root.is_dir():
            raise SystemExit(f"There is no {PACKAGE!r} in {checkout}")
        self.entries = sorted(p.name for p in self.root.iterdir() if p.name != "__pycache__")
        paths = sorted(p for p in self.root.rglob("*.py"))
        self.files = [SourceFile(p, str(p.relative_to(self.root))) for p in paths]
        sys.path.insert(0, str(self.root.parent))
        try:
            self._graph = grimp.build_graph(PACKAGE, include_external_packages=True, cache_dir=None)
        finally:
            sys.path.pop(0)

    @cached_property
    def modules(self) -> dict[str, set[str]]:
        """What every module imports of ours."""
        return {
            m: {o for o in self._graph.find_modules_directly_imported_by(m) if o.split(".")[0] == PACKAGE}
            for m in self._graph.modules
            if m.split(".")[0] == PACKAGE
        }

    @cached_property
    def rooms(self) -> dict[str, set[str]]:
        """What every room imports of ours."""
        arrows: dict[str, set[str]] = {}
        for module, others in self.modules.items():
            room = room_of(module)
            arrows.setdefault(room, set()).update({room_of(o) for o in others} - {room})
        return arrows

    def users_of(self, *packages: str) -> list[str]:
        """Return the rooms that import packages of others."""
        using = {m for p in packages if p in self._graph.modules for m in self._users(p)}
        return sorted({room_of(m) for m in using if m.split(".")[0] == PACKAGE})

    def _users(self, package: str) -> set[str]:
        return self._graph.find_modules_that_directly_import(package)

    @cached_property
    def functions(self) -> list[Function]:
        """All functions, the largest first."""
        return sorted((f for s in self.files for f in s.functions), key=lambda f: (-f.lines, f.place))

    @cached_property
    def inner_imports(self) -> list[tuple[str, bool]]:
        """All function-level imports of our own modules."""
        return [i for s in self.files for i in s.inner_imports]

    @cached_property
    def lists(self) -> dict[str, list[str]]:
        """What is counted, by the title of its row."""
        large = [f for f in self.functions if f.lines > LARGE_FUNCTION]
        many = sorted(
            (f for f in self.functions if f.parameters > MANY_PARAMETERS),
            key=lambda f: (-f.parameters, f.place),
        )
        files = sorted(self.files, key=lambda s: -s.line_count)
        classes = sorted((c for s in self.files for c in s.classes_handing_on), key=lambda c: -c.handing_on)
        levels = floors(self.rooms)
        return {
            "entries": self.entries,
            "rooms": sorted(self.rooms),
            "packages": sorted(
                str(p.parent.relative_to(self.root)) for p in self.root.rglob("*/__init__.py")
            ),
            "floors": [f"{len(levels) - i:2d} {', '.join(r)}" for i, r in enumerate(reversed(levels))],
            "arrows between rooms": [f"{a} -> {', '.join(sorted(o))}" for a, o in sorted(self.rooms.items())],
            "circles of rooms": [", ".join(c) for c in circles(self.rooms)],
            "circles of modules": [
                ", ".join(m.removeprefix(f"{PACKAGE}.") for m in c) for c in circles(self.modules)
            ],
            "rooms that import SQLAlchemy": self.users_of("sqlalchemy"),
            "rooms that import Dask": self.users_of("dask", "distributed"),
            "function-level imports of ours": [text for text, _ in self.inner_imports],
            "of these without a reason beside": [text for text, reason in self.inner_imports if not reason],
            "largest functions": [f"{f.lines:4d} {f.place}" for f in self.functions[:SHOWN]],
            f"functions above {LARGE_FUNCTION} lines of code": [f"{f.lines:4d} {f.place}" for f in large],
            f"functions above {MANY_PARAMETERS} parameters": [f"{f.parameters:4d} {f.place}" for f in many],
            f"files above {LARGE_FILE} lines": [
                f"{s.line_count:4d} {s.name}" for s in files if s.line_count > LARGE_FILE
            ],
            "classes that mostly hand on": [f"{c.handing_on} of {c.methods} {c.place}" for c in classes],
        }

    @cached_property
    def figures(self) -> dict[str, int]:
        """The figures, by the title of their row."""
        figures = {title: len(values) for title, values in self.lists.items()}
        figures["arrows between rooms"] = sum(map(len, self.rooms.values()))
        figures["largest functions"] = self.functions[0].lines
        return {
            "files": len(self.files),
            "lines": sum(s.line_count for s in self.files),
            "lines of code": sum(s.code_lines for s in self.files),
            **figures,
        }


def room_of(module: str) -> str:
    """Return the room a module is in."""
    return (*module.split("."), "__init__")[1]


def print_figures(structures: Iterable[Structure]) -> None:
    """Print a row for each figure, a column for each checkout."""
    structures = list(structures)
    if len(structures) > 1:
        print(f"{'':36}" + "".join(f"{s.root.parent.name:>12.11}" for s in structures))
    for title in structures[0].figures:
        shown = "lines of the largest function" if title == "largest functions" else title
        print(f"{shown:36}" + "".join(f"{s.figures[title]:12d}" for s in structures))


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "checkouts", nargs="*", type=Path, default=[Path(__file__).parents[1]], metavar="CHECKOUT"
    )
    parser.add_argument("--list", action="store_true", help="name what is counted, of the last checkout")
    options = parser.parse_args()
    structures = [Structure(c) for c in options.checkouts]
    print_figures(structures)
    if options.list:
        for title, values in structures[-1].lists.items():
            print(f"\n{title}")
            for value in values or ["none"]:
                print(f"  {value}")


if __name__ == "__main__":
    main()
