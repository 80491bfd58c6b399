"""butler_dask: a Dask-native data butler and pipetask."""

__version__ = "0.1.0"
