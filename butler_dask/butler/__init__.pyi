"""The names of this package that others use; each module is loaded when a name of it is first used."""

from .butler import Butler as Butler
from .dataset_choice import DataIdChoice as DataIdChoice, DatasetChoice as DatasetChoice
from .repository import (
    CONFIG_VERSION as CONFIG_VERSION,
    Repository as Repository,
    known_repositories as known_repositories,
    read_settings as read_settings,
)
from .repository_check import check_repository as check_repository, repair_repository as repair_repository
