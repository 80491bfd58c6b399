"""butler_dask: a Dask-native data butler and pipetask.

Every public name, and every package, can be taken from here. Its module is loaded when the name is first
used, so that ``import butler_dask`` itself costs nothing; which names there are says ``__init__.pyi``.
"""

from difflib import get_close_matches
from typing import Any

from lazy_loader import attach_stub

__version__ = "0.1.0"

_loaded, __dir__, __all__ = attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name in __all__:
        return _loaded(name)
    near = get_close_matches(name, __all__, n=1)
    hint = f". Did you mean: {near[0]!r}?" if near else ""
    raise AttributeError(f"module 'butler_dask' has no attribute {name!r}{hint}")
