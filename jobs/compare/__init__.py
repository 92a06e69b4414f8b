"""`v2a compare`: run models over the same clips, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.common.lazy import hand_on

if TYPE_CHECKING:
    from jobs.compare.config import CompareConfig, command
    from jobs.compare.driver import run

__all__ = ["CompareConfig", "command", "run"]

__getattr__ = hand_on(__name__, CompareConfig="config", command="config", run="driver")
