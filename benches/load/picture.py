"""Draws the table's races as benches/load/results.svg: requests a second and latency, ours beside the rival's."""

from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from measure import Sample
from rows import Row

OURS, RIVAL = "#1b7f79", "#c9ccd1"
BAR = 0.38


def draw(rows: list[Row], facts: str, file: Path) -> None:
    races = [row for row in rows if row.race]
    # The same table gives the same file, so that a change of it is a change of figures.
    plt.rcParams["svg.hashsalt"] = "results"
    # Text as text, in whatever sans-serif font the reader has: a tenth of the size.
    plt.rcParams["svg.fonttype"] = "none"
    plt.rcParams["font.family"] = "sans-serif"
    figure, (rates, latencies) = plt.subplots(
        1, 2, sharey=True, figsize=(11, 0.95 * len(races) + 1.4), layout="constrained"
    )
    for at, row in enumerate(races):
        for offset, runs, colour in ((-BAR, row.race.ours, OURS), (0, row.race.rival, RIVAL)):
            rate = middle(runs, "rate")
            rates.barh(at + offset, rate, BAR, align="edge", color=colour)
            rates.text(rate, at + offset + BAR / 2, f" {rate:,.0f}", va="center", fontsize=8)
            p50, p99 = middle(runs, "p50") / 1000, middle(runs, "p99") / 1000
            latencies.barh(at + offset, p50, BAR, align="edge", color=colour)
            label = f" {p50:.2f} ms"
            # pgbench tells its mean alone.
            if p99 > p50:
                latencies.plot([p50, p99], [at + offset + BAR / 2] * 2, color=colour, lw=1)
                latencies.plot(p99, at + offset + BAR / 2, "|", color=colour, ms=8)
                label += f", p99 {p99:.2f}"
            latencies.text(max(p50, p99), at + offset + BAR / 2, label, va="center", fontsize=8)
    rates.set_yticks(range(len(races)), [title(row) for row in races], fontsize=9)
    rates.invert_yaxis()
    rates.set_title("requests a second (more is better)", fontsize=10)
    latencies.set_title("median, line to p99, milliseconds (less is better)", fontsize=10)
    for axes in (rates, latencies):
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.28)
        axes.tick_params(axis="x", labelsize=8)
    bars = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in (OURS, RIVAL)]
    figure.legend(bars, ["healthcare-backend", "the rival"], loc="outside lower right", ncols=2)
    figure.text(0.01, 0.01, facts, fontsize=7, color="#555555")
    figure.savefig(file, metadata={"Date": None})


def middle(runs: list[Sample], name: str) -> float:
    return median(getattr(run, name) for run in runs)


def title(row: Row) -> str:
    """What is measured, and whom against, without the rival's rate."""
    rival = row.rival.partition("/s ")[2]
    what, _, rest = row.what.partition(", ")
    return "\n".join(filter(None, (what, rest, f"against {rival}")))
