"""Docstrings say of every array what one must know to make or use it.

The rule: an array is given as ``shape (ny, nx), float32 [ADU]``, shape, type and unit, on the line of its
name; ``[1]`` stands for a pure number. It is read from the source, so that what annotations say is an array
cannot be forgotten. To hold another package to it, add it to `PACKAGES`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import butler_dask

ROOT = Path(butler_dask.__file__).parent
PACKAGES = {"imaging": 100, "registry": 15}
"""Packages held to it, and how many arrays each has at least."""

_TYPE = r"(?:float(?:16|32|64)?|u?int(?:8|16|32|64)?|bool|any number type|any type)"
FULL_FORM = re.compile(
    r"shape (?:\([^()]*\)|`[\w.]+`)"  # (ny, nx), or another's: `Detector.shape`
    rf", {_TYPE}(?: or {_TYPE})*"
    r" \[[^\[\]]+\]"
)


@dataclass
class Documented:
    """A public function, method or class with what its docstring says."""

    name: str
    arrays: dict[str, str]
    """Parameters (or fields) that are arrays, with their annotations."""
    returned: int
    """How many arrays are returned."""
    doc: str
    sections: dict[str, dict[str, str]] = field(default_factory=dict)
    """Entry lines by section and name."""

    def __post_init__(self) -> None:
        self.sections = {title: _entries(self.doc, title) for title in ("Parameters", "Returns")}

    def problems(self) -> Iterator[str]:
        for array in self.arrays:
            entry = self.sections["Parameters"].get(array)
            if entry is None:
                yield f"{self.name}: array {array!r} is not documented"
            elif not FULL_FORM.search(entry):
                yield f"{self.name}: array {array!r} lacks shape, type or unit: {entry!r}"
        returns = self.sections["Returns"]
        told = sum(bool(FULL_FORM.search(entry)) for entry in returns.values())
        if not returns:
            # A function of one line tells it in that line.
            told = len(FULL_FORM.findall(" ".join(self.doc.split("\n\n")[0].split())))
        if told < self.returned:
            yield f"{self.name}: of {self.returned} returned arrays {told} have shape, type and unit"


def _entries(doc: str, title: str) -> dict[str, str]:
    """Return the lines ``name, name : type`` of a numpydoc section, by name."""
    match = re.search(rf"^{title}\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    lines = match.group(1).splitlines() if match else []
    found = {}
    for line in lines:
        if line and not line[0].isspace() and " : " in line:
            names, entry = line.split(" : ", 1)
            found |= {name.strip(" *"): entry for name in names.split(",")}
    return found


def _is_array(annotation: ast.expr | None) -> bool:
    return (
        annotation is not None and re.search(r"\b(NDArray|ArrayLike)\b", ast.unparse(annotation)) is not None
    )


def _arrays_returned(annotation: ast.expr | None) -> int:
    if not _is_array(annotation):
        return 0
    assert annotation is not None
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "tuple":
        assert isinstance(annotation.slice, ast.Tuple)
        return sum(map(_is_array, annotation.slice.elts))
    return 1


def _arrays_taken(function: ast.FunctionDef) -> dict[str, str]:
    arguments = function.args
    return {
        a.arg: ast.unparse(a.annotation)
        for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        if a.annotation is not None and _is_array(a.annotation)
    }


def _documented(body: Sequence[ast.stmt], prefix: str) -> Iterator[Documented]:
    for node in body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
            continue
        name, doc = f"{prefix}{node.name}", ast.get_docstring(node) or ""
        if isinstance(node, ast.FunctionDef):
            yield Documented(name, _arrays_taken(node), _arrays_returned(node.returns), doc)
            continue
        arrays = {
            s.target.id: ast.unparse(s.annotation)
            for s in node.body
            if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name) and _is_array(s.annotation)
            if not s.target.id.startswith("_")
        }
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                arrays |= _arrays_taken(method)
        yield Documented(name, arrays, 0, doc)
        yield from _documented(node.body, f"{name}.")


def documented_in(path: Path) -> list[Documented]:
    """Return the public functions, methods and classes of a module."""
    return list(_documented(ast.parse(path.read_text()).body, f"{path.stem}."))


def problems_of(source: str, tmp_path: Path) -> list[str]:
    (tmp_path / "module.py").write_text(source)
    return [problem for thing in documented_in(tmp_path / "module.py") for problem in thing.problems()]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_array_tells_its_shape_type_and_unit(package):
    things = [thing for path in sorted((ROOT / package).rglob("*.py")) for thing in documented_in(path)]
    assert sum(len(thing.arrays) for thing in things) > PACKAGES[package], (
        "the rule has lost sight of the arrays"
    )
    problems = [problem for thing in things for problem in thing.problems()]
    assert not problems, "\n" + "\n".join(problems)


VALUES = (
    "__init__",
    "detector",
    "detector_document",
    "exposure",
    "mask",
    "simulated_exposure",
    "stamps",
    "visit_info",
)
"""Modules of imaging that hold values, or put together what others do."""

SOURCE = re.compile(
    r"doi:10\.|FITS standard|Rubin's ``[\w.]+``|``(?:sep|lsst\.[\w.]+)``"  # a paper, a standard, a peer
    r"|[A-Z]\w+(?: (?:&|et|al\.|[A-Z]\w+))* \(?\d{4}\b"  # Lupton 2005, Gordon et al. (2008, ...
)


@pytest.mark.parametrize("path", sorted((ROOT / "imaging").glob("*.py")), ids=lambda path: path.stem)
def test_every_algorithm_names_its_source(path):
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, documented))
    told = any(SOURCE.search(" ".join((ast.get_docstring(node) or "").split())) for node in nodes)
    assert told or path.stem in VALUES, "name the paper, the standard or the peer that it follows"


UNDOCUMENTED = '''
def add(x: NDArray[np.float64], y: ArrayLike, n: int = 1) -> tuple[NDArray[np.float64], int]:
    """Add.

    Parameters
    ----------
    x : `numpy.ndarray`, shape (n,), float64 [s]
        First.
    n : `int`
        How often.

    Returns
    -------
    total : `numpy.ndarray`, shape (n,)
        Sum.
    count : `int`
        Shape (n,), float64 [s].
    """


class Values:
    """Values.

    Parameters
    ----------
    x : `numpy.ndarray`, float64 [s]
        Without a shape.
    """

    x: NDArray[np.float64]

    @property
    def twice(self) -> NDArray[np.float64]:
        """Twice, shape (n,), float64 [s]."""

    @property
    def half(self) -> NDArray[np.float64]:
        """Half, shape (n,), float64."""

    def _private(self, y: NDArray[np.float64]) -> None: ...
'''


def test_what_is_missing_is_found_and_named(tmp_path):
    found = problems_of(UNDOCUMENTED, tmp_path)
    assert [problem.split(":")[0] for problem in found] == [
        "module.add",
        "module.add",
        "module.Values",
        "module.Values.half",
    ]
    assert "'y' is not documented" in found[0]
    assert "of 1 returned arrays 0" in found[1]
    assert "'x' lacks shape, type or unit" in found[2]
