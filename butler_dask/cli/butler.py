"""The ``butler`` program: repositories, collections, datasets."""

from __future__ import annotations

from collections.abc import Sequence

from .command import program, run_program

_COMMANDS = {
    "associate": ("collection_commands", "Add datasets to a TAGGED collection."),
    "certify-calibrations": ("collection_commands", "Give calibrations a validity range."),
    "check": ("check_commands", "Compare what is recorded with the files; repair."),
    "collection-chain": ("collection_commands", "Define or edit a CHAINED collection."),
    "config-dump": ("config_commands", "Print the configuration of a repository."),
    "config-validate": ("config_commands", "Check templates and formatters of dataset types."),
    "create": ("config_commands", "Make an empty repository."),
    "define-defaults": ("setup_commands", "Make INSTRUMENT/defaults, the chain of all inputs."),
    "define-visits": ("ingest_commands", "Define visits from exposures."),
    "demo": ("setup_commands", "Make the tutorial's repository from a simulated survey."),
    "display": ("display_commands", "Draw an image dataset as a PNG file."),
    "export": ("transfer_commands", "Export datasets to a directory."),
    "export-calibs": ("transfer_commands", "Export calibrations with their validity ranges."),
    "import": ("transfer_commands", "Take in what was exported."),
    "ingest-files": ("ingest_commands", "Ingest the files that a table lists."),
    "ingest-raws": ("ingest_commands", "Ingest raw files."),
    "ingest-reference-catalog": ("setup_commands", "Ingest a catalogue as reference catalogue."),
    "ingest-zip": ("ingest_commands", "Ingest a Zip file of retrieve-artifacts."),
    "make-discrete-skymap": ("setup_commands", "Define a sky map around existing visits."),
    "migrate": ("migration_commands", "Bring an older registry up to date."),
    "prune-collection": ("removal_commands", "Remove one collection, with its datasets if asked."),
    "prune-datasets": ("removal_commands", "Remove datasets, their files or their tags."),
    "query-collections": ("collection_listing", "List collections."),
    "query-data-ids": ("query_commands", "List data IDs."),
    "query-dataset-types": ("query_commands", "List dataset types."),
    "query-datasets": ("query_commands", "List datasets."),
    "query-dimension-records": ("query_commands", "List records of a dimension."),
    "register-dataset-type": ("setup_commands", "Register a dataset type."),
    "register-instrument": ("setup_commands", "Register an instrument."),
    "register-skymap": ("setup_commands", "Register a sky map from its YAML file."),
    "remove-collections": ("removal_commands", "Remove collections that hold no dataset of their own."),
    "remove-dataset-type": ("removal_commands", "Remove dataset types without datasets."),
    "remove-runs": ("removal_commands", "Remove RUN collections with their datasets."),
    "retrieve-artifacts": ("transfer_commands", "Copy the files of datasets to a directory."),
    "transfer-datasets": ("transfer_commands", "Transfer datasets to another repository."),
    "write-curated-calibrations": ("setup_commands", "Write and certify what the camera file carries."),
}

butler = program(
    "butler",
    "Make, fill and query data repositories. REPO is a path, a URI or an alias.",
    _COMMANDS,
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program and exit.

    Parameters
    ----------
    argv : sequence of `str`, optional
        Arguments; those of the process when not given.
    """
    run_program(butler, argv)


if __name__ == "__main__":
    main()
