"""TrustedFormatters: which classes a repository lets read its files.

A formatter is recorded with each file by its dotted name, and such names come from elsewhere too: in export
files, Zip files, other repositories and graph files. To import and call what such a name says is to run code
that somebody else chose, and to read a pickle is to run code of whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import RepositoryError, UntrustedFormatterError, did_you_mean
from .formatter import load_formatter

_PACKAGE = __package__.partition(".")[0]
PICKLE_FORMATTER = f"{__package__}.pickled_object.PickleFormatter"
_SETTINGS = ("formatters", "pickle")


class TrustedFormatters:
    """The formatters of this package, those that a repository's settings name, and pickle where allowed.

    Parameters
    ----------
    settings : mapping, optional
        ``trust:`` of ``butler.yaml``: ``formatters``, a list of dotted names, and ``pickle``, whether
        datasets of storage class ``Pickle`` are written and read.
    configured : iterable of `str`, optional
        Dotted names under ``formatters:`` there.

    Raises
    ------
    RepositoryError
        If there is no such setting, or it has another form.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None, configured: Iterable[str] = ()) -> None:
        self.settings = dict(settings or {})
        for key in self.settings:
            if key not in _SETTINGS:
                raise RepositoryError(f"trust: no setting {key!r}.{did_you_mean(str(key), _SETTINGS)}")
        names = self.settings.get("formatters") or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RepositoryError(f"trust: formatters: is a list of dotted names, not {names!r}")
        if not isinstance(self.settings.get("pickle", False), bool):
            raise RepositoryError(f"trust: pickle: is true or false, not {self.settings['pickle']!r}")
        self._names = frozenset(names) | frozenset(configured)
        self._loaded: dict[tuple[str, str], Any] = {}

    def load(self, name: str, storage_class: str) -> Any:
        """Return a formatter by its dotted name; nothing is imported that is not trusted.

        Parameters
        ----------
        name : `str`
            Dotted name of its class.
        storage_class : `str`
            Storage class of the file it is to read or write.

        Raises
        ------
        UntrustedFormatterError
            If it is neither of this package nor named in the settings, or a pickle is not allowed.
        DatasetTypeError
            If it cannot be imported or is no formatter.
        """
        formatter = self._loaded.get((name, storage_class))
        if formatter is None:
            formatter = self._loaded[name, storage_class] = self._checked(name, storage_class)
        return formatter

    def _checked(self, name: str, storage_class: str) -> Any:
        ours = name.startswith(f"{_PACKAGE}.")
        if not ours and name not in self._names:
            raise UntrustedFormatterError(
                f"The formatter {name!r} is not trusted: it is neither of {_PACKAGE} nor named in this "
                "repository's butler.yaml. If you know who wrote it, name it there: "
                f"`trust: {{formatters: [{name}]}}`."
            )
        formatter = load_formatter(name)
        kind = type(formatter)
        if ours and name not in self._names and kind.__module__.partition(".")[0] != _PACKAGE:
            raise UntrustedFormatterError(
                f"{name!r} is not a formatter of {_PACKAGE}, but {kind.__module__}.{kind.__qualname__}."
            )
        if f"{kind.__module__}.{kind.__qualname__}" == PICKLE_FORMATTER:
            self._require_pickle(storage_class)
        return formatter

    def _require_pickle(self, storage_class: str) -> None:
        if storage_class != "Pickle":
            raise UntrustedFormatterError(
                f"Only datasets of storage class Pickle are pickled, not those of {storage_class}."
            )
        if not self.settings.get("pickle", False):
            raise UntrustedFormatterError(
                "Storage class Pickle: to read a pickle is to run code from its file. Where everybody who "
                "may bring files in is trusted, `trust: {pickle: true}` in this repository's butler.yaml "
                "allows it."
            )
