"""`v2a extract`: turn footage with sound into a feature store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.common.lazy import hand_on

if TYPE_CHECKING:
    from jobs.extract.config import ExtractConfig, command
    from jobs.extract.driver import run

__all__ = ["ExtractConfig", "command", "run"]

__getattr__ = hand_on(__name__, ExtractConfig="config", command="config", run="driver")
