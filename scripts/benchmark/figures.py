"""From samples to what is printed: medians, ratios, budgets, tables. Pure."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple


class Series(NamedTuple):
    """The samples of one contender in one unit; without samples, ``skipped`` says why."""

    name: str
    samples: tuple[float, ...] = ()
    skipped: str = ""


class Summary(NamedTuple):
    """The middle and the ends of a series."""

    median: float
    least: float
    most: float


class Budget(NamedTuple):
    """What a figure is held to. ``met`` is None where it could not be judged, and ``measured`` says why."""

    what: str
    limit: str
    measured: str
    met: bool | None


def summarise(samples: Sequence[float]) -> Summary | None:
    """None without samples."""
    return Summary(median(samples), min(samples), max(samples)) if samples else None


def find(series: Sequence[Series], name: str) -> Summary | None:
    """The summary of the series with this name; None when it is not there or has no samples."""
    return next((summarise(each.samples) for each in series if each.name == name), None)


def ratio(series: Sequence[Series], name: str, to: str) -> float | None:
    """The median of ``name`` as a multiple of the median of ``to``."""
    above, below = find(series, name), find(series, to)
    return above.median / below.median if above and below and below.median else None


def rows(series: Sequence[Series], reference: str) -> list[tuple[str, ...]]:
    """A table's rows, its head first: each series with its ratio to ``reference``; skipped ones tell why."""
    found: list[tuple[str, ...]] = [("", "median", "min", "max", "runs", f"to {reference}")]
    for each in series:
        summary = summarise(each.samples)
        if summary is None:
            found.append((each.name, f"skipped: {each.skipped}"))
            continue
        relative = ratio(series, each.name, reference)
        found.append(
            (
                each.name,
                *(f"{value:.2f}" for value in summary),
                str(len(each.samples)),
                "-" if relative is None else f"{relative:.2f}",
            )
        )
    return found


def layout(table: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines with the columns under each other. A row with fewer cells than the first runs free after its name."""
    full = [row for row in table if len(row) == len(table[0])]
    widths = [max(len(row[column]) for row in full) for column in range(len(table[0]))]
    widths[0] = max(len(row[0]) for row in table)
    lines = []
    for row in table:
        if len(row) != len(table[0]):
            lines.append("  ".join((row[0].ljust(widths[0]), *row[1:])))
            continue
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def start_budgets(starts: Sequence[Series], ours: str, podman: str) -> list[Budget]:
    """A cold start takes at most 45 ms, and at most a third of rootless podman's."""
    cold = find(starts, ours)
    share = ratio(starts, ours, podman)
    return [
        Budget(
            "cold start, host base, limited network",
            "at most 45 ms",
            f"{cold.median:.1f} ms" if cold else "not measured",
            cold.median <= 45 if cold else None,
        ),
        Budget(
            "cold start beside rootless podman",
            "at most 1/3",
            f"{share:.2f}" if share else "rootless podman was not measured",
            share <= 1 / 3 if share else None,
        ),
    ]


def relay_budget(relay: Sequence[Series], ours: str, direct: str, what: str) -> Budget:
    """A relay carries at least 2 GB/s where loopback gives 4, hence half of what it gives where that is less."""
    found, loopback = find(relay, ours), find(relay, direct)
    limit = "at least 2 GB/s where loopback gives 4"
    if found is None or loopback is None:
        return Budget(what, limit, "not measured", None)
    needed = min(2.0, loopback.median / 2)
    measured = f"{found.median:.2f} GB/s where loopback gives {loopback.median:.2f}"
    return Budget(what, limit, measured, found.median >= needed)


def share_budget(
    series: Sequence[Series],
    ours: str,
    peer: str,
    what: str,
    *,
    least: float | None = None,
    most: float | None = None,
) -> Budget:
    """A share of what a peer reaches, between two limits, of which one may be absent."""
    share = ratio(series, ours, peer)
    words = [f"at {word} {value}" for word, value in (("least", least), ("most", most)) if value is not None]
    limit = f"{', '.join(words)} of {peer}"
    if share is None:
        return Budget(what, limit, "the peer was not measured", None)
    met = (least is None or share >= least) and (most is None or share <= most)
    return Budget(what, limit, f"{share:.2f}", met)


def added_budget(series: Sequence[Series], ours: str, direct: str, most: float, what: str) -> Budget:
    """At most so much more than without."""
    found, without = find(series, ours), find(series, direct)
    limit = f"at most {most} ms"
    if found is None or without is None:
        return Budget(what, limit, "not measured", None)
    added = found.median - without.median
    return Budget(what, limit, f"{added:.2f} ms", added <= most)


def limit_budget(
    series: Sequence[Series], name: str, unit: str, *, most: float | None = None, least: float | None = None
) -> Budget:
    """A median between two limits, of which one may be absent."""
    words = [
        f"at {word} {value:,.0f} {unit}"
        for word, value in (("most", most), ("least", least))
        if value is not None
    ]
    found = find(series, name)
    if found is None:
        return Budget(name, ", ".join(words), "not measured", None)
    met = (most is None or found.median <= most) and (least is None or found.median >= least)
    measured = f"{found.median:,.0f}" if found.median >= 100 else f"{found.median:.1f}"
    return Budget(name, ", ".join(words), f"{measured} {unit}", met)


def budget_rows(budgets: Sequence[Budget]) -> list[tuple[str, ...]]:
    """A table's rows, its head first."""
    words = {True: "met", False: "NOT met", None: "not judged"}
    return [
        ("budget", "limit", "measured", ""),
        *((each.what, each.limit, each.measured, words[each.met]) for each in budgets),
    ]


def as_json(
    machine: Mapping[str, Any], groups: Mapping[str, Sequence[Series]], budgets: Sequence[Budget]
) -> dict[str, Any]:
    """Everything, in plain values: ``machine``, one list for each group, ``budgets``."""
    found: dict[str, Any] = {"machine": dict(machine)}
    for name, series in groups.items():
        found[name] = [_plain(each) for each in series]
    found["budgets"] = [each._asdict() for each in budgets]
    return found


def _plain(series: Series) -> dict[str, Any]:
    summary = summarise(series.samples)
    if summary is None:
        return {"name": series.name, "skipped": series.skipped}
    return {
        "name": series.name,
        "median": round(summary.median, 4),
        "min": round(summary.least, 4),
        "max": round(summary.most, 4),
        "samples": [round(value, 4) for value in series.samples],
    }
