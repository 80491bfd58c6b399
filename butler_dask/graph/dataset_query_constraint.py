"""DatasetQueryConstraint: which overall inputs must exist for a data ID to be considered.

All of them is right nearly always. Where an input is sparse in a way the pipeline knows how to handle,
leaving it out of the query and pruning afterwards gives other graphs.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InvalidQueryError
from ..pipeline.pipeline_nodes import DatasetTypeNode


@dataclass(frozen=True, slots=True)
class DatasetQueryConstraint:
    """Which overall inputs constrain the query for data IDs.

    Parameters
    ----------
    names : `frozenset` [`str`] or `None`
        Dataset types that do; `None` for all that may.
    """

    names: frozenset[str] | None = None

    def applies_to(self, node: DatasetTypeNode) -> bool:
        """Return whether a dataset type of the pipeline constrains the query.

        Parameters
        ----------
        node : `DatasetTypeNode`
            A dataset type of the pipeline.

        Returns
        -------
        applies : `bool`
            Never for one that a task of the pipeline makes.
        """
        if node.producing_edge is not None or node.is_prerequisite or node.is_init:
            return False
        if self.names is not None:
            return node.name in self.names
        # An optional input decides nothing, nor does one whose author deferred it.
        return node.is_initial_query_constraint and any(e.minimum > 0 for e in node.consuming_edges)


ALL = DatasetQueryConstraint()
OFF = DatasetQueryConstraint(frozenset())


class DatasetQueryConstraintVariant:
    """The reference's name for ways to say it."""

    ALL = ALL
    OFF = OFF

    @staticmethod
    def fromExpression(expression: str) -> DatasetQueryConstraint:
        """Return the constraint of ``all``, ``off``, or comma-separated dataset type names.

        Parameters
        ----------
        expression : `str`
            As typed.

        Returns
        -------
        constraint : `DatasetQueryConstraint`
            What it says.

        Raises
        ------
        InvalidQueryError
            If the text is empty or mixes a keyword with names.
        """
        text = expression.strip()
        if text.lower() == "all":
            return ALL
        if text.lower() == "off":
            return OFF
        names = [n.strip() for n in text.split(",")]
        if not all(n.isidentifier() for n in names):
            raise InvalidQueryError(
                f"{expression!r} is no dataset query constraint: say 'all', 'off', or dataset type names "
                "separated by commas."
            )
        return DatasetQueryConstraint(frozenset(names))
