"""The picture of the benchmarks' page."""

from __future__ import annotations

from typing import Any

from stablemd.evaluation.figure_style import WIDTH, new_figure, style, to_png


def scaling_figure(rates: dict[str, dict[str, dict[str, float]]]) -> bytes:
    """Time per atom and step over the number of replicas, both axes logarithmic, as PNG.

    Args:
        rates: contender -> number of replicas -> rates, from ``schnet_scaling.derive``.
    """
    with style():
        figure = new_figure(WIDTH, 0.62 * WIDTH)
        axes: Any = figure.add_subplot()
        for marker, (name, sizes) in zip("osD^vPX", rates.items(), strict=False):
            replicas = [int(n) for n in sizes]
            times = [rate["us_per_atom_step"] for rate in sizes.values()]
            axes.plot(replicas, times, marker=marker, markersize=4, label=name)
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="replicas",
            ylabel="CPU time per atom and step, µs",
        )
        axes.legend(fontsize=7)
        return to_png(figure)
