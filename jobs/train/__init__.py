"""`v2a train`: fit a generator to a feature store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.common.lazy import hand_on

if TYPE_CHECKING:
    from jobs.train.config import TrainConfig, command
    from jobs.train.driver import run

__all__ = ["TrainConfig", "command", "run"]

__getattr__ = hand_on(__name__, TrainConfig="config", command="config", run="driver")
