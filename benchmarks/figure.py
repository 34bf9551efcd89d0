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
        figure = new_figure(WIDTH, 0.75 * WIDTH)
        figure.set_layout_engine("constrained")
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
        figure.legend(loc="outside lower center", ncols=2, fontsize=7)
        return to_png(figure)


def growth_figure(panels: dict[str, dict[int, float]]) -> bytes:
    """Time per step over sizes, both axes logarithmic, beside a line of slope one, as PNG.

    Args:
        panels: what grows -> size -> CPU time per step in ms.
    """
    with style():
        figure = new_figure(WIDTH, 0.55 * WIDTH)
        figure.set_layout_engine("constrained")
        for place, (name, times) in enumerate(panels.items()):
            axes: Any = figure.add_subplot(1, len(panels), place + 1)
            sizes = sorted(times)
            axes.plot(sizes, [times[n] for n in sizes], marker="o", markersize=4)
            first, last = sizes[0], sizes[-1]
            ideal = [times[first], times[first] * last / first]
            axes.plot([first, last], ideal, linestyle="--", label="linear")
            axes.set(
                xscale="log",
                yscale="log",
                xlabel=name,
                ylabel="" if place else "CPU time per step, ms",
            )
            axes.set_xticks(sizes, [str(n) for n in sizes])
            axes.minorticks_off()
            axes.legend(fontsize=7)
        return to_png(figure)
