"""How a quantum can end other than by writing all its outputs.

`NoWorkFound` is no failure and therefore no `Exception`: task code often guards an algorithm with
``except Exception`` and must not swallow the signal by accident. The names are the reference's.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Any, Protocol

from ..errors import ButlerDaskError
from ..vocabulary.dotted_name import dotted_name

__all__ = [
    "AlgorithmError",
    "AnnotatedPartialOutputsError",
    "InvalidQuantumError",
    "NoWorkFound",
    "RepeatableQuantumError",
    "ScalarError",
    "UpstreamFailureNoWorkFound",
]


class NoWorkFound(BaseException):
    """There is nothing to do for this data ID; the quantum counts as a success without outputs.

    Raise it in ``run`` or ``runQuantum`` (a predicted overlap turned out empty), or in
    ``PipelineTaskConnections.adjustQuantum`` (the quantum is left out of the graph).
    """

    FAULT_TOLERANT = True


class UpstreamFailureNoWorkFound(NoWorkFound):
    """Nothing can be done because a step before this one failed in a way that was expected."""


class ScalarError(ButlerDaskError, TypeError):
    """A connection for one dataset (``multiple=False``) got several."""


class InvalidQuantumError(ButlerDaskError):
    """The quantum or its graph is at fault; running it again cannot help."""

    EXIT_CODE = 21


class RepeatableQuantumError(ButlerDaskError, RuntimeError):
    """The quantum fails for these inputs and this configuration wherever it runs; it is not retried."""

    EXIT_CODE = 20


class AlgorithmError(RepeatableQuantumError, ABC):
    """An algorithm cannot do its work on these data; subclasses say why in ``metadata``."""

    @property
    @abstractmethod
    def metadata(self) -> dict[str, Any] | None:
        """Simple values that describe the failure, for the task's metadata (`dict` or `None`)."""


class _Annotatable(Protocol):
    """What `AnnotatedPartialOutputsError.annotate` writes the failure on."""

    metadata: Any


class AnnotatedPartialOutputsError(RepeatableQuantumError):
    """The task failed after writing some outputs, which carry a note of the failure."""

    @classmethod
    def annotate(
        cls, error: Exception, *args: _Annotatable | None, log: logging.Logger
    ) -> AnnotatedPartialOutputsError:
        """Write a description of an error into the metadata of partial outputs.

        Parameters
        ----------
        error : `Exception`
            What went wrong.
        *args : object with a ``metadata`` mapping, or `None`
            The task and the outputs to annotate.
        log : `logging.Logger`
            Where the error is reported.

        Returns
        -------
        exception : `AnnotatedPartialOutputsError`
            To be raised ``from error`` after the outputs are written.
        """
        failure: dict[str, Any] = {
            "failure.type": dotted_name(type(error)),
            "failure.message": str(error),
        }
        if isinstance(error, AlgorithmError):
            failure |= {f"failure.metadata.{k}": v for k, v in (error.metadata or {}).items()}
        for item in args:
            metadata = getattr(item, "metadata", None)
            if metadata is not None:
                for key, value in failure.items():
                    metadata[key] = value
        log.error("Task failed with only partial outputs: %s: %s", type(error).__name__, error)
        return cls(f"{type(error).__name__}: {error}. Some outputs were written, with a note of this.")
