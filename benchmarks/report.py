"""The page in the docs and its pictures, from the JSON files of the runs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from portfolioopt.report.canvas import GRID, INK, QUIET, save_png

from . import frontier, gpu, growth, language, loop, one, sweep, tables
from .peers import OURS, PEERS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Record = dict[str, Any]

DOCS = Path(__file__).resolve().parents[1] / "docs"
SECTIONS: dict[str, tuple[str, ModuleType]] = {
    "one": ("One problem", one),
    "frontier": ("A frontier", frontier),
    "sweep": ("Thousands of what-ifs", sweep),
    "loop": ("Again and again", loop),
    "growth": ("Growth", growth),
    "language": ("The problem language", language),
    "gpu": ("On a GPU", gpu),
}
METHOD = """\
All figures of a section are from one run on one machine. Every peer, problem and size runs in a process of its own,
under a limit on time ({time_limit_seconds:g} s) and memory ({memory_limit_gigabytes:g} GB); who breaks one at a size is
not tried at larger ones. Preparation (matrices, data frames) is not timed, the call that its users make is: the median
of nine calls, of three where a call takes over 2 s, one where it takes over 20 s. Compiling is reported apart. Threads
are left at each library's default.

Objective, CVaR and violations of every answer are recomputed from its weights, by code that no solver shares. The best
known objective is the best of all answers that violate nothing by more than 1e-7; an answer is *exact* when it is
within 1e-6 of that, relative, and violates nothing by more than 1e-6. A time without a remark is of an exact answer;
otherwise its gap or violation stands beside it. A negative gap comes with a violation.

Raw solvers get linear programs built by hand, in units in which a return is about one, because their tolerances are
absolute; libraries get returns as their users would pass them. fortitudo.tech may make as many cuts as it needs,
cvqp at 1e-8 has a fixed step because its adaptive one does not settle on some of the instances, and MPAX is compiled
ahead. Where many problems are solved in a row, HiGHS keeps one model and its basis and only numbers move. Scenarios are
Student-t factor returns (`factor_t`), and bootstraps of the 20 bundled stocks (`bootstrap`).

*Losses* is our time in evaluations of R @ w by NumPy in the same process, *passes* how often the whole scenario matrix
was read, *certified* the gap that the result itself proves, and *of P1* our time over that for P1 at the same size.
"""
# told apart by most colour-blind readers; ours is the strong one
_COLOURS = {OURS: "#4477aa", "highs-dual": "#ee7733", "fortitudo": "#228833", "skfolio": "#aa3377"}
_OTHERS = ("#66bbdd", "#ccaa33", "#009988", "#8c6bb1", "#96664d", "#cc3311")
_MARKS = "os^Dvp*"


def write(results: Path, docs: Path = DOCS) -> list[Path]:
    """Render the page and the pictures that the files in `results` allow; returns the files written."""
    payloads = {name: json.loads((results / f"{name}.json").read_text()) for name in SECTIONS if _exists(results, name)}
    payloads = {name: payload for name, payload in payloads.items() if payload["records"]}
    images = docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, list[tuple[str, str]]] = {}
    written: list[Path] = []
    for name, payload in payloads.items():
        for title, draw in _PICTURES.get(name, ()):
            figure = draw(payload["records"])
            if figure is not None:
                path = save_png(figure, images / f"benchmark_{title}.png")
                written.append(path)
                pictures.setdefault(name, []).append((f"Time against {title}", f"images/{path.name}"))
    page = docs / "benchmarks.md"
    page.write_text(_page(payloads, pictures), encoding="utf-8")
    return [page, *written]


def _exists(results: Path, name: str) -> bool:
    return (results / f"{name}.json").exists()


def _page(payloads: dict[str, Record], pictures: dict[str, list[tuple[str, str]]]) -> str:
    if not payloads:
        return "# Benchmarks\n\nNothing has been measured yet: `make bench`.\n"
    goals = [goal for name, payload in payloads.items() for goal in SECTIONS[name][1].goals(payload["records"])]
    reached = sum(goal.met is True for goal in goals)
    missed = sum(goal.met is False for goal in goals)
    first = next(iter(payloads.values()))
    parts = [
        "# Benchmarks",
        "Measured by `make bench`; this page is rendered from the files in `benchmarks/results`.",
        f"Aims: {reached} reached, {missed} missed, {len(goals) - reached - missed} not measured. "
        "[performance.md](performance.md) says where the time goes, and why.",
        tables.goals(goals).markdown(),
        "## Method",
        METHOD.format(**first["settings"]),
    ]
    parts += [payload["settings"]["note"] for payload in payloads.values() if "note" in payload["settings"]]
    for name, payload in payloads.items():
        title, module = SECTIONS[name]
        parts += [f"## {title}", f"{(module.__doc__ or '').strip()}", _machine(payload["machine"])]
        parts += [f"![{words}]({path})" for words, path in pictures.get(name, [])]
        parts += [table.markdown() for table in module.report(payload["records"], payload["settings"])]
    parts += ["## Versions", _versions(payloads)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _machine(machine: Record) -> str:
    memory = f", {machine['memory_gib']:g} GiB" if machine.get("memory_gib") else ""
    return f"{machine['cpu']}, {machine['cores']} cores{memory}; Python {machine['python']}; {machine['date']}."


def _versions(payloads: dict[str, Record]) -> str:
    """Versions that the runs had; a package that one of them lacked is said to be missing."""
    found: dict[str, list[str]] = {}
    for payload in payloads.values():
        for package, version in payload["machine"]["versions"].items():
            found.setdefault(package, []).append(version or "not installed")
    return ", ".join(f"{package} {' / '.join(dict.fromkeys(versions))}" for package, versions in found.items()) + "."


# -- pictures --------------------------------------------------------------------------------------------------------
Points = dict[str, list[tuple[float, float, bool]]]


def _against_scenarios(records: list[Record]) -> Figure | None:
    points = _points([r for r in records if r["axis"] == "scenarios"], "scenarios", "seconds")
    return _lines(points, f"Seconds for P1 at N = {growth.ASSETS}", "scenarios S")


def _against_assets(records: list[Record]) -> Figure | None:
    chosen = [r for r in records if r["axis"] == "assets"]
    held = f" at S = {chosen[0]['scenarios']:,}" if chosen else ""
    return _lines(_points(chosen, "assets", "seconds"), f"Seconds for P1{held}", "assets N")


def _against_batch(records: list[Record]) -> Figure | None:
    per_problem = [r | {"each": r["seconds"] / r["count"]} for r in records if r["status"] == "ok"]
    where = tables.size(records[0]["scenarios"], records[0]["assets"])
    return _lines(
        _points(per_problem, "count", "each"), f"Seconds per problem, what-ifs at {where}", "problems in the batch"
    )


_PICTURES: dict[str, list[tuple[str, Callable[[list[Record]], Figure | None]]]] = {
    "one": [],
    "frontier": [],
    "sweep": [("batch", _against_batch)],
    "loop": [],
    "growth": [("scenarios", _against_scenarios), ("assets", _against_assets)],
    "gpu": [],
}


def _points(records: list[Record], x: str, y: str) -> Points:
    """Coordinates by peer, each with whether the answer was exact."""
    found: Points = {}
    for r in records:
        if r["status"] == "ok":
            found.setdefault(r["peer"], []).append((r[x], r[y], bool(r.get("exact", True))))
    return {key: sorted(found[key]) for key in PEERS if key in found}


def _lines(points: Points, title: str, across: str) -> Figure | None:
    """Lines on logarithmic axes, each labelled at its end; hollow marks are answers that are not exact."""
    if not any(len(line) > 1 for line in points.values()):
        return None
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "font.family": ["DejaVu Sans"], "font.size": 9.0, "text.color": INK, "axes.edgecolor": QUIET,
        "axes.labelcolor": QUIET, "xtick.color": QUIET, "ytick.color": QUIET, "grid.color": GRID, "grid.linewidth": 0.6,
        "axes.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    }  # fmt: skip
    defaults = {key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith("backend")}
    with mpl.rc_context(defaults | style):
        figure = Figure(figsize=(9.0, 4.2))
        axes = figure.subplots(gridspec_kw={"left": 0.08, "right": 0.78, "top": 0.88, "bottom": 0.12})
        axes.set_xscale("log")
        axes.set_yscale("log")
        others = iter(_OTHERS)
        ends: list[tuple[float, float, str, str]] = []
        for number, (key, line) in enumerate(points.items()):
            colour = _COLOURS.get(key) or next(others, QUIET)
            x, y, _ = zip(*line, strict=True)
            axes.plot(x, y, color=colour, linewidth=2.4 if key == OURS else 1.4)
            for at, height, good in line:
                fill = colour if good else "white"
                axes.plot(at, height, _MARKS[number % len(_MARKS)], color=colour, markerfacecolor=fill, markersize=5)
            ends.append((x[-1], y[-1], PEERS[key].title, colour))
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold", pad=14)
        axes.set_xlabel(across)
        axes.grid(visible=True, which="major")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.tick_params(which="both", length=0)
        if any(not good for line in points.values() for _, _, good in line):
            note = "hollow: the answer is not exact"
            axes.annotate(note, (1, 1), xytext=(0, 6), xycoords="axes fraction", textcoords="offset points", ha="right",
                          fontsize=8, color=QUIET)  # fmt: skip
        _name(axes, ends)
    return figure


def _name(axes: Any, ends: list[tuple[float, float, str, str]]) -> None:
    """Names at the right edge, level with the ends of the lines but never on top of each other."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    span = math.log(high) - math.log(low)
    places: list[float] = []
    for _, height, name, colour in sorted(ends, key=lambda end: end[1]):
        place = (math.log(height) - math.log(low)) / span
        place = max(place, places[-1] + 0.06) if places else place
        places.append(place)
        axes.annotate(name, (1.02, place), xycoords="axes fraction", va="center", fontsize=9, color=colour)
