"""CalibrationError, below the task and its steps, which both raise it."""

from __future__ import annotations

from typing import Any

from ..pipeline import AlgorithmError


class CalibrationError(AlgorithmError):
    """An exposure cannot be calibrated: no PSF, no match, no reference flux."""

    # Failures are recorded in repositories under this name.
    __module__ = "butler_dask.tasks.calibrate"

    @property
    def metadata(self) -> dict[str, Any]:
        """The message alone."""
        return {"reason": str(self)}
