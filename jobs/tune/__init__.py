"""`v2a tune`: search for the settings with which a generator trains best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.common.lazy import hand_on

if TYPE_CHECKING:
    from jobs.tune.config import TuneConfig, command
    from jobs.tune.driver import run

__all__ = ["TuneConfig", "command", "run"]

__getattr__ = hand_on(__name__, TuneConfig="config", command="config", run="driver")
