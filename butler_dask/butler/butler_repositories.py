"""ButlerRepositories: repositories made, known by labels, and their settings checked."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any

from ..errors import MissingRepositoryLabelError, RepositoryError, did_you_mean
from .butler_parts import ButlerParts
from .repository import Repository, known_repositories, read_settings

_LOG = logging.getLogger("butler_dask.butler")


class ButlerRepositories(ButlerParts):
    """What a butler says of repositories as a whole; `Butler` inherits it."""

    @staticmethod
    def makeRepo(
        root: str | PathLike[str],
        config: Mapping[str, Any] | str | PathLike[str] | None = None,
        dimensionConfig: Any = None,
        standalone: bool = False,
        searchPaths: list[str] | None = None,
        forceConfigRoot: bool = True,
        outfile: str | PathLike[str] | None = None,
        overwrite: bool = False,
        **settings: Any,
    ) -> Repository:
        """Make an empty repository.

        Parameters
        ----------
        root : path
            Its directory.
        config : mapping or path, optional
            Settings, as in ``butler.yaml``, or a YAML file with them.
        dimensionConfig : `None`
            There is one dimension universe.
        standalone, searchPaths, forceConfigRoot
            Accepted for the reference's sake: ``butler.yaml`` always says everything.
        outfile : path, optional
            Where the configuration is written instead of ``butler.yaml`` below the root.
        overwrite : `bool`
            Replace a configuration file that is there.
        **settings
            Further arguments of `Repository.create` (``registry=``, ``datastore=``).

        Raises
        ------
        RepositoryError
            If there is a repository already, or a setting is not right; nothing is made.

        Returns
        -------
        repository : `Repository`
            To be given to `Butler`.
        """
        if dimensionConfig is not None:
            raise RepositoryError("The dimension universe is fixed here; leave dimensionConfig out.")
        given = config if config is None or isinstance(config, Mapping) else read_settings(config)
        return Repository.create(root, settings=given, outfile=outfile, overwrite=overwrite, **settings)

    @staticmethod
    def get_known_repos() -> set[str]:
        """Return the labels of repositories (see `butler_dask.butler.repository.known_repositories`)."""
        return set(known_repositories())

    @staticmethod
    def get_repo_uri(label: str, return_label: bool = False) -> str:
        """Return the root of the repository of a label.

        Parameters
        ----------
        label : `str`
            Label (see `get_known_repos`).
        return_label : `bool`
            Return the label itself where it is none.

        Raises
        ------
        MissingRepositoryLabelError
            If there is no such label; the nearest match is named.
        """
        known = known_repositories()
        if label in known:
            return known[label]
        if return_label:
            return label
        raise MissingRepositoryLabelError(
            f"No repository is labelled {label!r}.{did_you_mean(label, known)} Labels come from "
            "DAF_BUTLER_REPOSITORIES or DAF_BUTLER_REPOSITORY_INDEX."
        )

    @staticmethod
    def has_repo_config(root: str | PathLike[str]) -> bool:
        """Return whether there is a repository's configuration at a root."""
        try:
            Repository.find(root)
        except RepositoryError:
            return False
        return True

    def configuration_problems(
        self, datasetTypeNames: Iterable[str] | None = None, ignore: Iterable[str] | None = None
    ) -> list[str]:
        """Return what is wrong with path templates and formatters, for the dataset types there are.

        Parameters
        ----------
        datasetTypeNames : iterable of `str`, optional
            Only these dataset types, and not the names in the settings.
        ignore : iterable of `str`, optional
            Dataset types (or names in the settings) that are passed over.
        """
        left_out = set(ignore or ())
        expression: Any = ... if datasetTypeNames is None else list(datasetTypeNames)
        found = self._registry.dataset_types.query(expression)
        kinds = [kind for kind in found if kind.name not in left_out]
        return self._datastore.layout.problems(kinds, left_out if datasetTypeNames is None else None)

    def validateConfiguration(
        self,
        logFailures: bool = False,
        datasetTypeNames: Iterable[str] | None = None,
        ignore: Iterable[str] | None = None,
    ) -> None:
        """Check path templates and formatters; see `configuration_problems`.

        Parameters
        ----------
        logFailures : `bool`
            Log each problem as well.
        datasetTypeNames, ignore
            See `configuration_problems`.

        Raises
        ------
        RepositoryError
            If there is a problem; all of them are named.
        """
        problems = self.configuration_problems(datasetTypeNames, ignore)
        if logFailures:
            for problem in problems:
                _LOG.critical("%s", problem)
        if problems:
            raise RepositoryError(f"{self.repository.root}:\n  " + "\n  ".join(problems))
