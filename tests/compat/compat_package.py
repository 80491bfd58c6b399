"""The package under test: butler_dask, or the reference, by BUTLER_DASK_COMPAT_PACKAGE."""

import importlib
import os
from typing import Any

NAME = os.environ.get("BUTLER_DASK_COMPAT_PACKAGE", "butler_dask")
api: Any = importlib.import_module(NAME)
registry_api: Any = importlib.import_module(f"{NAME}.registry")
