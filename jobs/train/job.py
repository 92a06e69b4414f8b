"""Plain values for the workers of `v2a train`, and the actor through which they report to the driver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.store.shards import Feed
    from v2a_models.generator import Generator
    from v2a_models.recipe import Recipe

STATE = "state.pt"
"""File in a checkpoint folder."""


@dataclass(frozen=True)
class TrainJob:
    """Settings of the workers, as plain values."""

    system: str
    size: str
    recipe: dict[str, Any]
    files: dict[str, str]
    start: str
    options: dict[str, Any]
    steps: int
    batch_size: int
    accumulate: int
    learning_rate: float
    warmup: int
    weight_decay: float
    clip_norm: float
    ema: float
    precision: str
    save_every: int
    validate_every: int
    log_every: int
    seed: int
    strategy: str
    threads: int
    resume: str = ""
    """Checkpoint folder to start from where Ray Train lists none; empty for none."""

    def new_generator(self) -> Any:
        """Generator with the weights that the training starts from."""
        from v2a_models.build import new_generator
        from v2a_models.recipe import Recipe

        return new_generator(
            self.system,
            Recipe.from_dict(self.recipe),
            self.size,
            files=self.files,
            start=self.start,
            **self.options,
        )


class Journal:
    """Ray actor that keeps the workers' events for the driver, and the driver's request to stop for the workers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.forgotten = 0
        self.stopping = False
        self.fatal = ""

    def add(self, *events: tuple[str, Any]) -> None:
        """Add events (kind, content)."""
        self.events += events

    def stop_requested(self) -> bool:
        """True once the workers are to save and end."""
        return self.stopping

    def fail(self, reason: str) -> None:
        """Record an error that another try would not mend: restarted workers end at once."""
        self.fatal = self.fatal or reason

    def stop(self) -> None:
        """Ask the workers to save and end."""
        self.stopping = True

    def read(self, since: int) -> tuple[list[tuple[str, Any]], str]:
        """Events from number `since` on, dropping earlier ones, and why the run cannot go on (empty if it can)."""
        self.events = self.events[max(0, since - self.forgotten) :]
        self.forgotten = max(self.forgotten, since)
        return self.events, self.fatal

    def reason(self) -> str:
        """Reason why the run cannot go on; empty if it can."""
        return self.fatal


class Fatal(Exception):
    """The run cannot go on, and another try would not help; the message says why."""


def out_of_memory(detail: str) -> str:
    """Error message for a lack of memory, with the options that help."""
    return (
        f"out of memory ({detail}). Use a higher --accumulate (the same training, in smaller micro-batches), "
        "a lower --batch-size, fewer --workers on a machine, or --strategy fsdp with more of them"
    )


@dataclass
class TrainPlan:
    """Training that passed its checks."""

    out: str
    store: str
    generator: Generator
    train: Feed
    val: Feed
    options: dict[str, Any]
    files: dict[str, str]
    identity: dict[str, Any]
    run_id: str
    """MLflow run to go on with; empty for a new one."""
    name: str
    """Folder of the run among the checkpoints."""
    resume: str = ""
    """Address of a checkpoint to start from; empty for none."""

    @property
    def recipe(self) -> Recipe:
        return self.generator.recipe


@dataclass(frozen=True)
class TrainResources:
    """Resources of the training."""

    workers: int
    gpus: bool
    cores: float
    """Cores that each worker books."""
