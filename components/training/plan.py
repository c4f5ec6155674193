"""What one training run is told: small, frozen, JSON, so that it crosses into the subprocess that trains."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from components.core.brief import FamilyName
from components.core.record import Record
from components.core.records import Ceiling, DataSpec, LocalDataset
from components.training.start import Start, read_start
from components.training.start.scratch import Scratch


class TrainPlan(Record):
    """One training run. It ends at `items_seen`; a ceiling that is reached first ends it, too. At least one must be given: where
    `items_seen` is not, a probe turns the ceiling into it, up to `items_enough` (work.py).

    `folder` holds the resumable state and the best checkpoint; `run_id` is the MLflow run that everything is logged to.
    """

    family: FamilyName
    variant: str
    config: dict[str, Any] = Field(default_factory=dict)
    spec: DataSpec
    dataset: LocalDataset
    embeddings: str | None = Field(default=None, description="the folder of those of its captions, where a text asks")
    folder: str
    run_id: str
    start: Annotated[SerializeAsAny[Start], BeforeValidator(read_start)] = Scratch()
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = Field(default=0, ge=0, description="CPU threads; 0: what runtime/threads.py says, or a run that goes on had")
    # Off: on a CPU no gain stands clear of its spread (benchmarks/results/training-cpu.json), on a GPU none is measured.
    channels_last: bool = Field(default=False, description="weights and images with channels innermost in memory")
    compiled: bool = Field(default=False, description="torch.compile, which takes a C++ compiler and minutes on a CPU")
    memory_gb: float | None = Field(
        default=None, gt=0, description="what a step of this process may take; what is free by default"
    )
    seed: int = Field(default=0, ge=0)
    items_seen: int | None = Field(default=None, gt=0, description="by all processes together, repeats counted")
    items_enough: int | None = Field(default=None, gt=0)
    ceiling: Ceiling | None = Field(default=None, description="seconds of the clock, readings included")
    pause_at: float | None = Field(
        default=None, gt=0, lt=1, description="the share of the work at which it saves its state and ends, to go on later"
    )
    state_every_s: float = Field(default=60.0, gt=0, description="seconds between saves of the resumable state")
    signal_images: int | None = Field(
        default=None,
        ge=2,
        description="images behind one reading of the quality; by default what the work affords (work.py)",
    )
    signal_steps: int = Field(default=8, ge=1, description="sampler steps for the signal, where the family takes several")

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if self.items_seen is None and self.ceiling is None:
            raise ValueError("a run without an end; give items_seen, or a ceiling")
        return self
