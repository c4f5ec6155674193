"""A graph as a server runs it, as a sampler: that of a family, just exported, or that of a bundle."""

from pathlib import Path
from typing import Protocol

from components.core.family import Family
from components.core.records import Bundle
from components.runtime.session import GraphSampler


class Graph(Protocol):
    """The names of a graph's input for what it is asked by, and of its output."""

    @property
    def condition(self) -> str | None: ...
    @property
    def output(self) -> str: ...


def sampler_of(family: Family, graph: Graph, path: Path, *, batch: int, device: str) -> GraphSampler:
    """Of a family's graph that lies at `path`."""
    noise, names = family.noise_inputs(), {"condition": graph.condition, "output": graph.output}
    return _as_served(GraphSampler(path, spec=family.spec, noise=noise, batch=batch, device=device, **names))  # type: ignore[arg-type]


def open_graph(bundle: Bundle, folder: Path, *, batch: int, device: str = "cpu") -> GraphSampler:
    """Of the bundle in a folder."""
    return _as_served(GraphSampler.of(folder, bundle, batch=batch, device=device))


def _as_served(sampler: GraphSampler) -> GraphSampler:
    """One whose items are timed one by one takes the threads that a server gives a lone request."""
    if sampler.batch == 1:
        sampler.enable_parallel_session()
    return sampler
