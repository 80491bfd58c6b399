"""Formatters of documents: dictionaries, lists, task configurations and small values.

JSON, because it is read ten times faster than YAML and everybody reads it too. What JSON lacks (keys that
are not strings, dates, bytes, complex numbers) is wrapped in an object with one ``$``-key, so that what was
put is what one gets. Tuples become lists, as with the reference's YAML. YAML files that were ingested are
read.
"""

from __future__ import annotations

import base64
import datetime
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from ..errors import UNREADABLE, DatasetTypeError
from ..vocabulary.config_text import config_from_text
from ..vocabulary.dotted_name import dotted_name
from .formatter import ReadRequest
from .storage_root import open_stream
from .value_document import value_from_document, value_to_document

_PLAIN = frozenset({str, int, float, bool, type(None)})
"""Types that JSON has."""

_WRAPPED = ("$items", "$date", "$datetime", "$bytes", "$set", "$complex")


def to_json(obj: Any, *, ascii_only: bool = False) -> str:
    """Return a document as JSON text, maybe with all but ASCII characters escaped.

    Raises
    ------
    DatasetTypeError
        If something in it has no form in JSON; its type is named.
    """
    return json.dumps(_wrapped(obj), ensure_ascii=ascii_only, separators=(", ", ": "))


def _wrapped(obj: Any) -> Any:
    kind = type(obj)
    if kind in _PLAIN:
        return obj
    if isinstance(obj, Mapping):
        if {str}.issuperset(map(type, obj)) and not (len(obj) == 1 and next(iter(obj)) in _WRAPPED):
            return {k: v if type(v) in _PLAIN else _wrapped(v) for k, v in obj.items()}
        return {"$items": [[_wrapped(k), _wrapped(v)] for k, v in obj.items()]}
    if isinstance(obj, (list, tuple)):
        return [v if type(v) in _PLAIN else _wrapped(v) for v in obj]
    if isinstance(obj, (bool, int, float, str)):  # subclasses, numpy.float64 among them
        return next(t for t in (bool, int, float, str) if isinstance(obj, t))(obj)
    if isinstance(obj, (set, frozenset)):
        return {"$set": [_wrapped(v) for v in sorted(obj, key=repr)]}
    if isinstance(obj, (bytes, bytearray)):
        return {"$bytes": base64.b64encode(obj).decode()}
    if isinstance(obj, datetime.datetime):
        return {"$datetime": obj.isoformat()}
    if isinstance(obj, datetime.date):
        return {"$date": obj.isoformat()}
    if isinstance(obj, complex):
        return {"$complex": [obj.real, obj.imag]}
    if hasattr(obj, "tolist"):  # numpy scalars and arrays
        return _wrapped(obj.tolist())
    raise DatasetTypeError(
        f"A document holds numbers, texts, lists and dictionaries, not a {dotted_name(kind)}"
    )


def from_json(text: str | bytes) -> Any:
    """Return the document of a JSON text written by `to_json`, or of any other."""
    return json.loads(text, object_hook=_unwrapped)


def _unwrapped(obj: dict[str, Any]) -> Any:
    if len(obj) != 1:
        return obj
    key, value = next(iter(obj.items()))
    if key not in _WRAPPED:
        return obj
    if key == "$items":
        return {tuple(k) if isinstance(k, list) else k: v for k, v in value}
    if key == "$set":
        return {tuple(v) if isinstance(v, list) else v for v in value}
    if key == "$bytes":
        return base64.b64decode(value)
    if key == "$datetime":
        return datetime.datetime.fromisoformat(value)
    if key == "$date":
        return datetime.date.fromisoformat(value)
    return complex(*value)


def _read_document(path: str) -> Any:
    with open_stream(path) as stream:
        text = stream.read()
    if path.endswith((".yaml", ".yml")):
        import yaml

        try:
            return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except (yaml.YAMLError, *UNREADABLE) as error:
            raise ValueError(f"not YAML: {error}") from error
    if not text:
        raise EOFError("the file is empty")
    return from_json(text)


class DocumentFormatter:
    """Formatter of dictionaries, lists and scalars."""

    extension: ClassVar[str] = ".json"
    reads_urls: ClassVar[bool] = True

    def chunks(self, obj: Any, storage_class: str) -> Iterable[Any]:
        """Return the JSON text."""
        return (to_json(obj).encode(),)

    def read(self, request: ReadRequest) -> Any:
        """Read a document."""
        return _read_document(request.path)


class ValueFormatter:
    """Formatter of small values that have a dictionary form: task metadata, cameras, sky maps."""

    extension: ClassVar[str] = ".json"
    reads_urls: ClassVar[bool] = True

    def chunks(self, obj: Any, storage_class: str) -> Iterable[Any]:
        """Return the JSON text of the value's dictionary."""
        return (to_json(value_to_document(obj, storage_class)).encode(),)

    def read(self, request: ReadRequest) -> Any:
        """Read a value."""
        return value_from_document(_read_document(request.path), request.storage_class)


class ConfigFormatter:
    """Formatter of task configurations (`lsst.pex.config.Config`): the Python text it saves itself as."""

    extension: ClassVar[str] = ".py"
    reads_urls: ClassVar[bool] = True

    def chunks(self, obj: Any, storage_class: str) -> Iterable[Any]:
        """Return the Python text."""
        stream = io.StringIO()
        obj.saveToStream(stream)
        return (stream.getvalue().encode(),)

    def read(self, request: ReadRequest) -> Any:
        """Read a configuration; its text is read as data, and never run."""
        with open_stream(request.path) as stream:
            return config_from_text(stream.read().decode(), request.path)
