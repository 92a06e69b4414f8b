"""Options of `v2a dub` about money."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.verb import WrongUsage

if TYPE_CHECKING:
    from pipelines.reports.costs import Prices


@dataclass
class PriceOptions:
    """What machines cost. Shown, and never part of what decides the sound."""

    price_core_hour: float | None = None
    """Price of a core for an hour, in any currency: report, last lines and --dry-run then say what the work costs, and
    what the whole archive will."""
    price_gpu_hour: float | None = None
    """The same of a GPU."""

    def prices(self) -> Prices:
        """The same for the pipeline. Raises WrongUsage for what is no price."""
        from pipelines.reports.costs import Prices

        for name in ("price_core_hour", "price_gpu_hour"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise WrongUsage(
                    f"--{name.replace('_', '-')} is the price of an hour, such as 0.04, not {value:g}"
                )
        return Prices(self.price_core_hour, self.price_gpu_hour)
