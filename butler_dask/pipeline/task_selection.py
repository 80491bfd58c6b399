"""The language of ``--select-tasks``: set expressions over the tasks of a pipeline graph.

The language is the reference's (its documentation, "Pipeline graph subset expressions").
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InvalidExpressionError, did_you_mean
from .pipeline_nodes import DatasetTypeNode, TaskNode
from .task_order import tasks_read_by
from .task_subsets import TaskSubset

__all__ = ["select_tasks"]

_GRAMMAR = r"""
    ?expression: expression "|" term   -> union
        | term
    ?term: term "&" factor             -> intersection
        | factor
    ?factor: "~" factor                -> inverse
        | "(" expression ")"
        | SEARCH NAME                  -> search
        | NAME                         -> named
    SEARCH: "<=" | ">=" | "<" | ">"
    NAME: /([TDS]:)?[A-Za-z0-9_][A-Za-z0-9_.\-]*/
    %import common.WS
    %ignore WS
"""


@functools.cache
def _parser() -> Any:
    import lark

    return lark.Lark(_GRAMMAR, start="expression", parser="lalr")


def select_tasks(
    expression: str,
    tasks: Mapping[str, TaskNode],
    subsets: Mapping[str, TaskSubset],
    dataset_types: Mapping[str, DatasetTypeNode],
) -> set[str]:
    """Return the labels of the tasks an expression selects.

    Parameters
    ----------
    expression : `str`
        See `PipelineGraph.select`.
    tasks : mapping of `str` to `TaskNode`
        The tasks to choose from, by label.
    subsets : mapping of `str` to `TaskSubset`
        Groups of tasks an expression may name.
    dataset_types : mapping of `str` to `DatasetTypeNode`
        Dataset types an expression may name.

    Raises
    ------
    InvalidExpressionError
        The expression is not well formed, or names what does not exist.
    """
    import lark

    try:
        tree = _parser().parse(expression)
    except lark.exceptions.UnexpectedInput as error:
        ended = getattr(getattr(error, "token", None), "type", "") == "$END"
        place = " at its end" if ended else f" at column {error.column}"
        raise InvalidExpressionError(
            f"Task selection {expression!r} is not well formed{place}. Write labels, subsets and "
            "dataset types with ~ & | ( ) and <, <=, >, >= before a name."
        ) from None
    return _Selection(expression, tasks, subsets, dataset_types).evaluate(tree)


class _Selection:
    """Evaluates the tree of one expression."""

    def __init__(
        self,
        expression: str,
        tasks: Mapping[str, TaskNode],
        subsets: Mapping[str, TaskSubset],
        dataset_types: Mapping[str, DatasetTypeNode],
    ) -> None:
        self.expression = expression
        self.tasks, self.subsets, self.dataset_types = tasks, subsets, dataset_types
        self.before = tasks_read_by(tasks.values())
        self.after: dict[str, set[str]] = {label: set() for label in tasks}
        for label, sources in self.before.items():
            for source in sources:
                self.after[source].add(label)

    def evaluate(self, tree: Any) -> set[str]:
        """Return the labels of a tree."""
        if tree.data == "union":
            return self.evaluate(tree.children[0]) | self.evaluate(tree.children[1])
        if tree.data == "intersection":
            return self.evaluate(tree.children[0]) & self.evaluate(tree.children[1])
        if tree.data == "inverse":
            return set(self.tasks) - self.evaluate(tree.children[0])
        if tree.data == "search":
            return self.search(str(tree.children[0]), str(tree.children[1]))
        kind, name = self.identify(str(tree.children[0]))
        if kind == "T":
            return {name}
        if kind == "S":
            return set(self.subsets[name].members)
        node = self.dataset_types[name]
        if node.producing_edge is not None and node.is_init:
            raise self.error(f"{name!r} is written when tasks are constructed and selects no task")
        return {node.producer} if node.producer is not None else set()

    def search(self, operator: str, text: str) -> set[str]:
        """Return the tasks before or after a task or dataset type."""
        kind, name = self.identify(text)
        if kind == "S":
            raise self.error(f"{operator} takes a task or a dataset type, and {name!r} is a subset")
        backwards, inclusive = operator[0] == "<", operator.endswith("=")
        links = self.before if backwards else self.after
        if kind == "T":
            found = self.reach(links[name], links)
            return found | {name} if inclusive else found
        node = self.dataset_types[name]
        init_output = node.producing_edge is not None and node.is_init
        if init_output and (backwards or inclusive):
            raise self.error(
                f"{operator} does not take {name!r}, which is written when tasks are constructed"
            )
        producer = set() if node.producer is None else {node.producer}
        if backwards:
            found = self.reach({b for p in producer for b in links[p]}, links)
        else:
            found = self.reach(set(node.consumers), links)
        return found | producer if inclusive else found

    def reach(self, start: set[str], links: dict[str, set[str]]) -> set[str]:
        """Return ``start`` and all that can be reached from it."""
        found: set[str] = set()
        todo = list(start)
        while todo:
            label = todo.pop()
            if label not in found:
                found.add(label)
                todo.extend(links[label])
        return found

    def identify(self, text: str) -> tuple[str, str]:
        """Return what a name is (``T``, ``S`` or ``D``), and the name."""
        places: dict[str, Iterable[str]] = {
            "T": self.tasks,
            "S": self.subsets,
            "D": self.dataset_types,
        }
        names = {"T": "task", "S": "subset", "D": "dataset type"}
        if text[1:2] == ":":
            kind, name = text[0], text[2:]
            if name not in set(places[kind]):
                raise self.error(f"there is no {names[kind]} {name!r}.{did_you_mean(name, places[kind])}")
            return kind, name
        kinds = [kind for kind, known in places.items() if text in set(known)]
        if len(kinds) > 1:
            choices = ", ".join(f"{kind}:{text}" for kind in kinds)
            raise self.error(f"{text!r} is ambiguous; write one of {choices}")
        if not kinds:
            known = [name for place in places.values() for name in place]
            raise self.error(f"there is no task, subset or dataset type {text!r}.{did_you_mean(text, known)}")
        return kinds[0], text

    def error(self, message: str) -> InvalidExpressionError:
        """Return the error for a wrong name."""
        return InvalidExpressionError(f"Task selection {self.expression!r}: {message}")
