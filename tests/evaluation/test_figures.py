from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from stablemd.errors import DataError
from stablemd.evaluation import figure_style
from stablemd.evaluation.figure_style import ROLES, to_inline_svg, to_png, to_svg
from stablemd.evaluation.figures import ObservableCurves, observable_figure, survival_figure
from stablemd.evaluation.report import ReportInput
from stablemd.evaluation.training_figures import training_figures


def line(figure: Figure, label: str, axes: int = 0) -> Line2D:
    (found,) = [x for x in figure.axes[axes].lines if x.get_label() == label]
    return found


def test_survival_figure_draws_the_curves_bands_and_numbers_at_risk(
    report_input: ReportInput,
) -> None:
    stable = report_input.stable_times
    figure = survival_figure(stable)
    for role, result in stable.items():
        drawn = line(figure, ROLES[role].label)
        np.testing.assert_array_equal(drawn.get_xdata(), result.curve.times)
        np.testing.assert_array_equal(drawn.get_ydata(), result.curve.survival)
        assert drawn.get_drawstyle() == "steps-post"
        assert to_hex(drawn.get_color()) == ROLES[role].color
    axes = figure.axes[0]
    bands = [c for c in axes.collections if isinstance(c, FillBetweenPolyCollection)]
    assert len(bands) == len(stable)
    assert axes.get_xlim() == (0.0, 3.0)
    written = [text.get_text() for text in axes.texts]
    ticks = [t for t in axes.get_xticks() if 0 <= t <= 3.0]
    for result in stable.values():
        counts = [str(n) for n in result.at_risk(ticks)]
        assert any(written[i : i + len(counts)] == counts for i in range(len(written)))


def test_observable_figure_draws_averages_and_their_differences(
    report_input: ReportInput,
) -> None:
    data = report_input.observables[0]
    figure = observable_figure(data)
    np.testing.assert_array_equal(line(figure, "reference").get_ydata(), data.reference)
    for role, (mean, _) in data.curves.items():
        np.testing.assert_array_equal(line(figure, role).get_ydata(), mean)
        np.testing.assert_allclose(
            line(figure, role, axes=1).get_ydata(), np.subtract(mean, data.reference)
        )
    with pytest.raises(DataError, match="one number per component"):
        replace(data, reference=np.zeros(3))
    with pytest.raises(DataError, match="'first'"):
        replace(data, curves={"first": data.curves["after"]})


def test_training_figures_draw_what_the_log_holds(report_input: ReportInput) -> None:
    history = report_input.history
    figures = training_figures(history, 0.1287)
    assert set(figures) == {
        "failed_fraction", "force_mae", "n_eff", "gradient_norms", "gradient_cosine",
        "signal_to_noise",
    }  # fmt: skip
    drawn = figures["force_mae"].axes[0].lines
    values = [r["force_mae_ev_per_angstrom"] for r in history]
    np.testing.assert_array_equal(drawn[0].get_ydata(), values)
    # Simulation phases stand before the first and after the last of five epochs.
    np.testing.assert_array_equal(drawn[0].get_xdata(), [0.5, 1, 2, 3, 4, 5, 5.5])
    assert drawn[1].get_ydata()[0] == 0.1287
    # Two steps in each of the first four epochs, none in the last.
    steps = figures["n_eff"].axes[0].lines[0]
    np.testing.assert_allclose(steps.get_xdata(), [0.8, 1.2, 1.8, 2.2, 2.8, 3.2, 3.8, 4.2])
    np.testing.assert_allclose(steps.get_ydata()[::2], [291.0, 282.0, 273.0, 264.0])
    # Trust is known of the two steps of the first epoch; a number that is not known is no point.
    looked_into = figures["signal_to_noise"].axes[0].lines[1]
    np.testing.assert_allclose(looked_into.get_xdata(), [0.8, 1.2])
    np.testing.assert_allclose(looked_into.get_ydata(), [2.5, 2.5])
    simulated = line(figures["failed_fraction"], "simulation phases")
    np.testing.assert_allclose(simulated.get_ydata(), [0.5, 0.5 / 6])


def test_no_legend_of_a_training_figure_lies_on_its_points(report_input: ReportInput) -> None:
    figures = training_figures(list(report_input.history) * 8, 0.1287)
    with_legend = {name: f.axes[0] for name, f in figures.items() if f.axes[0].get_legend()}
    assert set(with_legend) == {"failed_fraction", "gradient_norms"}
    for axes in with_legend.values():
        axes.figure.canvas.draw()
        legend = axes.get_legend().get_window_extent()  # type: ignore[union-attr]
        assert legend.y0 >= axes.get_window_extent().y1
        assert legend.y1 <= axes.figure.bbox.y1


def test_training_figures_of_partial_logs() -> None:
    assert training_figures([]) == {}
    assert training_figures([{"phase": "learn", "steps": []}]) == {}
    assert set(training_figures([{"failed_fraction": 0.0}])) == {"failed_fraction"}
    vanishing = {"observable_gradient_norm": 0.0, "label_gradient_norm": 1.0, "n_eff": None}
    assert set(training_figures([{"phase": "learn", "steps": [vanishing]}])) == {"gradient_norms"}


def test_exports_are_well_formed_and_leave_global_settings_alone(
    report_input: ReportInput,
) -> None:
    settings = dict(matplotlib.rcParams)
    figure = survival_figure(report_input.stable_times)
    assert to_png(figure).startswith(b"\x89PNG")
    ET.fromstring(to_svg(figure))
    inline = to_inline_svg(figure, "a", 'x "quoted" <label>')
    assert dict(matplotlib.rcParams) == settings
    root = ET.fromstring(inline)
    assert root.get("aria-label") == 'x "quoted" <label>'
    assert "width" not in root.attrib
    assert "height" not in root.attrib
    assert all(i.startswith("a-") for i in re.findall(r'\bid="([^"]+)"', inline))
    for role in report_input.stable_times:
        assert f"var(--{role}, {ROLES[role].color})" in inline
    # Every colour follows the page's theme: no colour stands outside var().
    assert not re.findall(r"(?<!, )#[0-9a-fA-F]{6}\b", inline)


def test_figures_refuse_nothing_and_unknown_roles(report_input: ReportInput) -> None:
    with pytest.raises(DataError, match="at least one"):
        survival_figure({})
    with pytest.raises(DataError, match="'old'"):
        survival_figure({"old": report_input.stable_times["after"]})


def palette(css: str) -> dict[str, str]:
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", css))


def linear(color: str) -> np.ndarray:
    c = np.array(matplotlib.colors.to_rgb(color))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def cielab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x = np.array(to_xyz) @ rgb / [0.9505, 1.0, 1.089]
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(a: str, b: str) -> float:
    dark, light = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (a, b))
    return (light + 0.05) / (dark + 0.05)


def themes() -> list[dict[str, str]]:
    css = (Path(figure_style.__file__).parent / "templates" / "report.css").read_text()
    light, dark = css.split("prefers-color-scheme: dark")
    return [palette(light), palette(light) | palette(dark.split("@media")[0])]


def test_page_and_figures_share_one_palette() -> None:
    for role in ("before", "control", "after"):
        assert themes()[0][role] == ROLES[role].color


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
def test_colours_are_readable_and_stay_apart_for_all_common_colour_vision(
    theme: dict[str, str],
) -> None:
    # Linear RGB as dichromats see it: Viénot, Brettel, Mollon, Color Res. Appl. 24, 243 (1999).
    protan = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    deutan = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    roles = ("before", "control", "after")
    for role in (*roles, "ink", "muted"):
        assert contrast(theme[role], theme["card"]) >= 4.5  # WCAG 2, level AA
    for vision in (np.eye(3), protan, deutan):
        seen = [cielab(np.clip(vision @ linear(theme[role]), 0, 1)) for role in roles]
        for i in range(3):
            for j in range(i):
                assert np.linalg.norm(seen[i] - seen[j]) > 30  # 2.3 is just noticeable


def test_a_curve_without_a_reference_and_a_single_number_are_drawn_too(
    report_input: ReportInput,
) -> None:
    data = replace(report_input.observables[0], reference=None)
    figure = observable_figure(data)
    (axes,) = figure.axes
    assert {x.get_label() for x in axes.lines} == set(data.curves)
    number = ObservableCurves(
        "density", [0.0], "density", "density (g/cm³)", [1.0],
        {"before": ([0.9], [0.01]), "after": ([1.02], [0.02])}, [0.005],
    )  # fmt: skip
    (axes,) = observable_figure(number).axes
    assert line_x(axes, "reference") == [1.0, 1.0]
    drawn = [container.lines[0].get_xdata().tolist() for container in axes.containers]
    assert drawn == [[0.9], [1.02]]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["before", "after"]


def line_x(axes: Axes, label: str) -> list[float]:
    (found,) = [x for x in axes.lines if x.get_label() == label]
    return list(found.get_xdata())
