"""Named groups of tasks, and those of them that are steps of a campaign."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..errors import PipelineLabelError, did_you_mean
from ..vocabulary.dimensions import DimensionGroup
from .pipeline_nodes import conform

__all__ = ["StepDefinitions", "TaskSubset"]


@dataclass(frozen=True)
class TaskSubset:
    """A named group of tasks.

    Parameters
    ----------
    label : `str`
        Its name.
    members : `frozenset` of `str`
        Task labels.
    description : `str`
        What it is for.
    """

    label: str
    members: frozenset[str]
    description: str = ""

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.members))

    def __contains__(self, label: object) -> bool:
        return label in self.members

    def __len__(self) -> int:
        return len(self.members)


class StepDefinitions:
    """Subsets that are the steps of a campaign, in order; iterates over their labels.

    Parameters
    ----------
    dimensions : mapping of `str` to iterable of `str`
        For each step, the dimensions by which it may be cut into independent pieces.
    """

    def __init__(self, dimensions: Mapping[str, Iterable[str]] | None = None) -> None:
        self._dimensions = {label: tuple(names) for label, names in (dimensions or {}).items()}

    def get_dimensions(self, label: str) -> DimensionGroup:
        """Return the dimensions by which a step may be cut.

        Raises
        ------
        PipelineLabelError
            There is no such step.
        """
        if label not in self._dimensions:
            raise PipelineLabelError(
                f"The pipeline has no step {label!r}.{did_you_mean(label, self._dimensions)}"
            )
        return conform(self._dimensions[label])

    def __iter__(self) -> Iterator[str]:
        return iter(self._dimensions)

    def __len__(self) -> int:
        return len(self._dimensions)

    def __contains__(self, label: object) -> bool:
        return label in self._dimensions

    def __getitem__(self, index: int) -> str:
        return list(self._dimensions)[index]
