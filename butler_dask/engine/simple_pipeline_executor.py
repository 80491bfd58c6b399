"""SimplePipelineExecutor: a pipeline from Python in three lines, for notebooks and tests.

>>> butler = SimplePipelineExecutor.prep_butler(repo, ["HSC/defaults"], "u/me/out")  # doctest: +SKIP
>>> executor = SimplePipelineExecutor.from_pipeline("example.yaml", butler=butler)  # doctest: +SKIP
>>> quanta = executor.run()  # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from ..butler.butler import Butler
from ..errors import CollectionError
from ..graph.all_dimensions_builder import AllDimensionsQuantumGraphBuilder
from ..pipeline.pipeline import Pipeline
from ..vocabulary.collection import CollectionType, run_timestamp, split_names
from .execution import run_graph
from .init_outputs import write_init_outputs
from .run_settings import RunSettings

if TYPE_CHECKING:
    from ..graph.quantum import Quantum
    from ..graph.quantum_graph import QuantumGraph
    from ..pipeline.pipeline_graph import PipelineGraph


class SimplePipelineExecutor:
    """Runs a quantum graph in this thread, quantum by quantum.

    Parameters
    ----------
    quantum_graph : `QuantumGraph`
        What to run.
    butler : `Butler`
        A writeable butler of its repository.

    Attributes
    ----------
    quantum_graph : `QuantumGraph`
        As given; ``metadata["output_run"]`` names its run.
    """

    def __init__(self, quantum_graph: QuantumGraph, butler: Butler) -> None:
        self.quantum_graph, self.butler = quantum_graph, butler

    @classmethod
    def prep_butler(
        cls,
        root: str | os.PathLike[str],
        inputs: str | Iterable[str],
        output: str,
        output_run: str | None = None,
    ) -> Butler:
        """Open a butler with a new RUN, in front of the inputs in a CHAINED collection.

        Parameters
        ----------
        root : path
            Repository.
        inputs : `str` or iterable of `str`
            Collections to read.
        output : `str`
            CHAINED collection to define.
        output_run : `str`, optional
            RUN to make; by default ``output`` and the time.

        Returns
        -------
        butler : `Butler`
            Reads ``output``, writes the run.

        Raises
        ------
        MissingCollectionError
            If an input does not exist.
        """
        run = output_run or f"{output}/{run_timestamp()}"
        with Butler(root, writeable=True) as butler:
            registry = butler.repository.registry
            with registry.transaction():
                registry.collections.register(run, CollectionType.RUN)
                registry.collections.register(output, CollectionType.CHAINED)
                registry.collections.set_chain(output, [run, *split_names(inputs)])
        return Butler(root, collections=[output], run=run, writeable=True)

    @classmethod
    def from_pipeline(
        cls,
        pipeline: Pipeline | PipelineGraph | str | os.PathLike[str],
        *,
        where: str = "",
        bind: Mapping[str, Any] | None = None,
        butler: Butler,
        output: str | None = None,
        output_run: str | None = None,
    ) -> Self:
        """Build the graph of a pipeline.

        Parameters
        ----------
        pipeline : `Pipeline`, `PipelineGraph` or path
            What to run.
        where : `str`
            Expression that selects data IDs.
        bind : mapping, optional
            Values of names in ``where``.
        butler : `Butler`
            As `prep_butler` gives it: its collections are the inputs, its run is written.
        output : `str`, optional
            CHAINED collection the run belongs to, for the record; the butler's one collection by default.
        output_run : `str`, optional
            RUN to write; the butler's by default.

        Raises
        ------
        CollectionError
            If neither the butler nor ``output_run`` names a run.
        EmptyQuantumGraphError
            If there is nothing to run; it says why.
        """
        if output_run is None and butler.run is None:
            raise CollectionError("Give an output_run, or a butler with a run (prep_butler).")
        if isinstance(pipeline, str | os.PathLike):
            pipeline = Pipeline.from_uri(os.fspath(pipeline))
        if isinstance(pipeline, Pipeline):
            pipeline = pipeline.to_graph(butler.registry)
        else:
            pipeline.resolve(butler.registry)
        builder = AllDimensionsQuantumGraphBuilder(
            pipeline, butler, where=where, bind=bind, output_run=output_run
        )
        collections = tuple(butler.collections)
        chain = output or (collections[0] if len(collections) == 1 else None)
        return cls(builder.finish(output=chain).graph, butler)

    def run(self, register_dataset_types: bool = False, save_versions: bool = True) -> list[Quantum]:
        """Run all quanta, in order.

        Parameters
        ----------
        register_dataset_types : `bool`
            Accepted as in the reference; types are always registered.
        save_versions : `bool`
            Whether to write, or compare, package versions.

        Returns
        -------
        quanta : `list` [`Quantum`]
            What was run.

        Raises
        ------
        Exception
            What the first task to fail raised. What finished before is recorded.
        RunConfigMismatchError
            If the run has other configs or versions.
        RunInUseError
            If another command writes the run.
        """
        repository = self.butler.repository
        with repository.registry.claims.kept():
            graph = write_init_outputs(repository, self.quantum_graph, save_versions=save_versions)
            settings = RunSettings(debug=True)
            run_graph(graph, repository, executor="sync", cluster="none", settings=settings)
        return list(graph)
