"""`v2a dub`: give the silent videos of an archive a sound track."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.common.lazy import hand_on

if TYPE_CHECKING:
    from jobs.dub.config import DubConfig, command
    from jobs.dub.driver import run

__all__ = ["DubConfig", "command", "run"]

__getattr__ = hand_on(__name__, DubConfig="config", command="config", run="driver")
