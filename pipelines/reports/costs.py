"""Cost of the work on an archive: core-seconds and GPU-seconds, in money where prices are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Prices:
    """Prices per hour in any currency; None for a price that is not known and is left out."""

    core_hour: float | None = None
    gpu_hour: float | None = None

    @property
    def known(self) -> bool:
        return self.core_hour is not None or self.gpu_hour is not None

    def of(self, core_s: float, gpu_s: float) -> float | None:
        """Price of core-seconds and GPU-seconds; None without any price."""
        if not self.known:
            return None
        return core_s / 3600 * (self.core_hour or 0.0) + gpu_s / 3600 * (self.gpu_hour or 0.0)


@dataclass(frozen=True)
class Costs:
    """Work spent on the dubbed footage, and its projection to the whole archive."""

    core_s: float
    gpu_s: float
    footage_s: float
    """Seconds of dubbed footage."""
    archive_s: float
    """Seconds of dubbed and of failed footage; skipped footage is not part of it."""
    prices: Prices = Prices()

    @property
    def total(self) -> float | None:
        """Price of the work so far; None without any price."""
        return self.prices.of(self.core_s, self.gpu_s)

    @property
    def per_hour(self) -> float | None:
        """Price per hour of dubbed footage; None if nothing was dubbed."""
        total = self.total
        return total / self.footage_s * 3600 if total is not None and self.footage_s > 0 else None

    @property
    def archive(self) -> float | None:
        """Price of the whole archive at this rate."""
        return self.per_hour * self.archive_s / 3600 if self.per_hour is not None else None

    @property
    def leaves_out(self) -> str:
        """Note on resources that were used and have no price; empty if there are none."""
        if not self.prices.known:
            return ""
        if self.prices.core_hour is None:
            return "cores left out"
        return "GPUs left out" if self.prices.gpu_hour is None and self.gpu_s > 0 else ""

    def figures(self) -> dict[str, float]:
        """Figures for MLflow and the report, by name; prices only where they are known."""
        prices = {"price_core_hour": self.prices.core_hour, "price_gpu_hour": self.prices.gpu_hour}
        prices |= {"cost": self.total, "cost_per_hour": self.per_hour, "cost_archive": self.archive}
        available = {name: value for name, value in prices.items() if value is not None}
        return {"core_seconds": self.core_s, "gpu_seconds": self.gpu_s, **available}


def costs(rows: Iterable[Mapping[str, Any]], prices: Prices) -> Costs:
    """Costs summed over the rows of a report, earlier runs included."""
    core_s = gpu_s = footage_s = archive_s = 0.0
    for row in rows:
        core_s += row.get("core_seconds") or 0.0
        gpu_s += row.get("gpu_seconds") or 0.0
        length = row.get("duration_s") or 0.0
        footage_s += length if row["status"] == "dubbed" else 0.0
        archive_s += length if row["status"] in ("dubbed", "failed") else 0.0
    return Costs(core_s, gpu_s, footage_s, archive_s, prices)


def money(value: float) -> str:
    """Amount with two decimals; small amounts with two significant digits."""
    if value == 0 or abs(value) >= 0.095:
        return f"{value:,.2f}"
    return f"{value:.2g}"
