"""Training of the bundled models `mini` and `vatt-mini`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.common.lazy import hand_on

if TYPE_CHECKING:
    from jobs.mini.config import MiniConfig
    from jobs.mini.driver import run

__all__ = ["MiniConfig", "run"]

__getattr__ = hand_on(__name__, MiniConfig="config", run="driver")
