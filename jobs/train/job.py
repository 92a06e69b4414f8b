"""What the workers of `v2a train` are told, and the small actor through which they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.store.training_feed import Feed

STATE = "state.pt"
"""File of a checkpoint."""


@dataclass(frozen=True)
class TrainJob:
    """What the workers need to know, in plain values."""

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
    """A checkpoint folder that counts where Ray Train knows of none."""

    def new_generator(self) -> Any:
        """The generator with the weights that the training starts from."""
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
    """What the workers have to say, kept for the driver, and whether they are to stop. Runs as an actor."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.forgotten = 0
        self.stopping = False
        self.fatal = ""

    def add(self, *events: tuple[str, Any]) -> None:
        """Takes events (kind, content)."""
        self.events += events

    def asked_to_stop(self) -> bool:
        """Whether the workers are to save and to end."""
        return self.stopping

    def fail(self, reason: str) -> None:
        """Nothing that trying again would mend: workers that start anew leave at once."""
        self.fatal = self.fatal or reason

    def stop(self) -> None:
        """Ask the workers to save and to end."""
        self.stopping = True

    def read(self, since: int) -> tuple[list[tuple[str, Any]], str]:
        """Events from number `since` on (the earlier ones are forgotten), and why the run cannot go on, if so."""
        self.events = self.events[max(0, since - self.forgotten) :]
        self.forgotten = max(self.forgotten, since)
        return self.events, self.fatal

    def reason(self) -> str:
        """Why the run cannot go on; empty if it can."""
        return self.fatal


class Fatal(Exception):
    """The run cannot go on, and trying again would not help; the message says why."""


def out_of_memory(detail: str) -> str:
    """The message, with what to turn."""
    return (
        f"out of memory ({detail}). Take less at a time: a higher --accumulate (the same training, in smaller pieces), "
        "a lower --batch-size, fewer --workers on a machine, or --strategy fsdp with more of them"
    )


@dataclass
class TrainPlan:
    """A training that can start."""

    out: str
    store: str
    generator: Any
    train: Feed
    val: Feed
    options: dict[str, Any]
    files: dict[str, str]
    identity: dict[str, Any]
    run_id: str
    """MLflow run to go on with, if there was one."""
    name: str
    """Of the run in the storage of checkpoints."""
    resume: str = ""

    @property
    def recipe(self) -> Any:
        return self.generator.recipe


@dataclass(frozen=True)
class TrainResources:
    """What the training runs on."""

    workers: int
    gpus: bool
    cores: float
    """Booked by each worker."""
