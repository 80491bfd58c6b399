"""The names of this package that others use; each module is loaded when a name of it is first used."""

from .curated_calibrations import write_curated_calibrations as write_curated_calibrations
from .default_collections import define_default_collections as define_default_collections
from .demo_survey import make_demo as make_demo
from .discrete_skymap import make_discrete_skymap as make_discrete_skymap
from .instrument import Instrument as Instrument
from .raw_files import find_raw_files as find_raw_files
from .raw_ingest import ingest_raws as ingest_raws
from .reference_catalog import (
    ingest_reference_catalog as ingest_reference_catalog,
    read_catalog as read_catalog,
)
from .skymap_registration import register_skymap as register_skymap
from .visits import define_visits as define_visits
