"""SearchDefaults: what a butler fills in when a call does not say: collections, run, data ID values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from .collection import split_names
from .data_id import DataCoordinate, DataIdValue


class SearchDefaults:
    """Defaults of a butler.

    Parameters
    ----------
    collections : iterable of `str`
        Searched, in order, when a call names none.
    run : `str`, optional
        RUN collection that takes what is put.
    data_id : mapping, optional
        Values for dimensions not given.
    infer : callable, optional
        Gives further values from the collections; called once, when the first value is needed.
    """

    __slots__ = ("_data_id", "_infer", "collections", "run")

    def __init__(
        self,
        collections: Iterable[str] = (),
        run: str | None = None,
        data_id: Mapping[str, DataIdValue] | None = None,
        infer: Callable[[], Mapping[str, DataIdValue]] | None = None,
    ) -> None:
        self.collections: tuple[str, ...] = tuple(collections)
        self.run = run
        self._data_id: dict[str, DataIdValue] = dict(data_id or {})
        self._infer = infer

    @property
    def data_id(self) -> Mapping[str, DataIdValue]:
        """Values for dimensions not given."""
        if self._infer is not None:
            self._data_id = {**self._infer(), **self._data_id}
            self._infer = None
        return self._data_id

    def assign(self, other: SearchDefaults) -> None:
        """Become like others, for everyone who shares these."""
        self.collections, self.run = other.collections, other.run
        self._data_id, self._infer = dict(other._data_id), other._infer

    def given(self, name: str) -> DataIdValue | None:
        """Return the value of a dimension if it is known without asking the collections."""
        return self._data_id.get(name)

    def value(self, name: str) -> DataIdValue | None:
        """Return the value of a dimension, from the collections if need be; `None` without any."""
        value = self._data_id.get(name)
        return value if value is not None else self.data_id.get(name)

    @property
    def dataId(self) -> DataCoordinate:
        """Values for dimensions not given, as a data ID."""
        return DataCoordinate.standardize(self.data_id, dimensions=tuple(self.data_id))

    def __repr__(self) -> str:
        return f"SearchDefaults({self.collections!r}, run={self.run!r}, data_id={dict(self._data_id)!r})"


class RegistryDefaults(SearchDefaults):
    """Defaults as one assigns them to ``butler.registry.defaults``.

    Parameters
    ----------
    collections : `str` or iterable of `str`, optional
        Searched, in order, when a call names none; ``run`` when not given.
    run : `str`, optional
        RUN collection that takes what is put.
    infer : `bool`
        Take the one instrument or skymap of the collections as given, where there is just one.
    **kwargs
        Values for dimensions not given.
    """

    __slots__ = ("infers",)

    def __init__(
        self,
        collections: str | Iterable[str] | None = None,
        run: str | None = None,
        infer: bool = True,
        **kwargs: DataIdValue,
    ) -> None:
        if collections is None:
            collections = () if run is None else (run,)
        super().__init__(split_names(collections), run, kwargs)
        self.infers = infer


def lone_values(found: Mapping[str, Collection[str]]) -> dict[str, DataIdValue]:
    """Return the values that need not be said, because there is no other: the one instrument, or sky map.

    Parameters
    ----------
    found : mapping of `str` to collection of `str`
        The values that collections have, by dimension.
    """
    return {name: next(iter(values)) for name, values in found.items() if len(values) == 1}
