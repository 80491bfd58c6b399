"""The chain of all that usual processing of an instrument reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..vocabulary.collection import CollectionType

if TYPE_CHECKING:
    from ..butler.butler import Butler


def define_default_collections(
    butler: Butler, instrument: str, further: Iterable[str] = ()
) -> tuple[str, list[str]]:
    """Define the chain ``<instrument>/defaults`` of raws, calibrations, masks, refcats and skymaps there are.

    Parameters
    ----------
    butler : `Butler`
        Open for writing.
    instrument : `str`
        Name of the instrument.
    further : iterable of `str`
        Collections at the end of the chain.

    Returns
    -------
    name : `str`
        The chain.
    members : `list` [`str`]
        What it holds.
    """
    usual = [f"{instrument}/raw/all", f"{instrument}/calib", f"{instrument}/masks", "refcats", "skymaps"]
    there = {i.name for i in butler.collections.query_info("*")}
    members = [c for c in usual if c in there] + list(further)
    name = f"{instrument}/defaults"
    butler.collections.register(name, CollectionType.CHAINED, "All inputs of usual processing.")
    butler.collections.redefine_chain(name, members)
    return name, members
