"""Files of datasets: paths, atomic writes, and the formatters that turn objects into files and back."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
