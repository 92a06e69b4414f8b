"""`v2a evaluate`: score a folder of sounds against the true ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.common.lazy import hand_on

if TYPE_CHECKING:
    from jobs.evaluate.config import EvaluateConfig, command
    from jobs.evaluate.driver import run

__all__ = ["EvaluateConfig", "command", "run"]

__getattr__ = hand_on(__name__, EvaluateConfig="config", command="config", run="driver")
