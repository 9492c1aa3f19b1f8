"""The benchmark: its figures are pure functions; the program runs and writes what it says. No figure is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from netpolicy import clienthello
from tests.capabilities import need

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from benchmark import figures, relay, served, wall  # noqa: E402
from benchmark.figures import Series, Summary  # noqa: E402
from benchmark.rounds import Contender, Failed, measure  # noqa: E402


def test_a_summary_is_the_middle_and_the_ends() -> None:
    assert figures.summarise([3.0, 1.0, 2.0]) == Summary(2.0, 1.0, 3.0)
    assert figures.summarise([4.0, 1.0, 2.0, 3.0]) == Summary(2.5, 1.0, 4.0)
    assert figures.summarise([]) is None


def test_a_ratio_is_of_medians_and_absent_where_a_side_is() -> None:
    series = [Series("a", (2.0, 4.0, 6.0)), Series("b", (8.0,)), Series("none", (), "not installed")]
    assert figures.ratio(series, "a", "b") == 0.5
    assert figures.ratio(series, "a", "none") is None
    assert figures.ratio(series, "missing", "a") is None


def test_a_table_shows_every_contender_and_why_one_was_skipped() -> None:
    series = [Series("ours", (2.0, 4.0, 3.0)), Series("peer", (), "not installed")]
    lines = figures.layout(figures.rows(series, "ours"))
    assert lines[0].split() == ["median", "min", "max", "runs", "to", "ours"]
    assert lines[1].split() == ["ours", "3.00", "2.00", "4.00", "3", "1.00"]
    assert lines[2] == "peer  skipped: not installed"


@pytest.mark.parametrize(
    ("ours", "podman", "met"),
    [
        ((40.0,), (150.0,), [True, True]),
        ((45.0,), (135.0,), [True, True]),
        ((46.0,), (100.0,), [False, False]),
        ((40.0,), (), [True, None]),
        ((), (100.0,), [None, None]),
    ],
)
def test_a_cold_start_is_held_to_its_time_and_its_share(
    ours: tuple[float, ...], podman: tuple[float, ...], met: list[bool | None]
) -> None:
    budgets = figures.start_budgets([Series("ours", ours), Series("podman", podman)], "ours", "podman")
    assert [each.met for each in budgets] == met


@pytest.mark.parametrize(
    ("ours", "direct", "met"),
    [(2.0, 4.0, True), (1.9, 4.0, False), (2.0, 9.0, True), (0.6, 1.2, True), (0.5, 1.2, False)],
)
def test_a_relay_is_held_to_two_where_loopback_gives_four(ours: float, direct: float, met: bool) -> None:
    series = [Series("ours", (ours,)), Series("direct", (direct,))]
    assert figures.relay_budget(series, "ours", "direct", "relay").met is met
    assert figures.relay_budget([], "ours", "direct", "relay").met is None


def test_plain_values_hold_every_sample_and_every_reason() -> None:
    budgets = figures.start_budgets([], "ours", "podman")
    groups = {"starts_ms": [Series("a", (1.0, 2.0)), Series("b", (), "why")]}
    found = json.loads(json.dumps(figures.as_json({"kernel": "6"}, groups, budgets)))
    assert found["machine"] == {"kernel": "6"}
    assert found["starts_ms"] == [
        {"name": "a", "median": 1.5, "min": 1.0, "max": 2.0, "samples": [1.0, 2.0]},
        {"name": "b", "skipped": "why"},
    ]
    assert [set(each) for each in found["budgets"]] == [{"what", "limit", "measured", "met"}] * 2


def test_contenders_run_by_turns_and_a_peer_that_fails_is_left_out() -> None:
    order: list[str] = []

    def works(name: str) -> tuple[float, ...]:
        order.append(name)
        return (1.0,)

    def fails() -> tuple[float, ...]:
        raise Failed("it broke")

    found = measure(
        [
            Contender(("a",), lambda: works("a")),
            Contender(("b",), lambda: works("b")),
            Contender(("c",), fails),
            Contender(("d",), None, "not installed"),
        ],
        rounds=2,
        warm_up=1,
        told=lambda _: None,
    )
    assert sorted(order) == ["a"] * 3 + ["b"] * 3
    assert order[2:4] in (["a", "b"], ["b", "a"])
    assert [(each.name, len(each.samples), each.skipped) for each in found] == [
        ("a", 2, ""),
        ("b", 2, ""),
        ("c", 0, "it broke"),
        ("d", 0, "not installed"),
    ]


def test_what_is_our_own_must_run() -> None:
    def fails() -> tuple[float, ...]:
        raise Failed("it broke")

    with pytest.raises(Failed, match="it broke"):
        measure([Contender(("ours",), fails, ours=True)], rounds=1, warm_up=0, told=lambda _: None)


def test_the_greeting_is_one_that_the_wall_reads() -> None:
    hello = clienthello.HelloReader().feed(relay.greeting("bench.test"))
    assert hello is not None
    assert hello.host == "bench.test"


def test_speeds_are_read_in_gigabytes_a_second() -> None:
    assert relay.read_speeds("down 3000000000 1.5\nup 1000000000 2.0\n") == (2.0, 0.5)


def test_the_benchmark_runs_and_writes_its_figures(data_dir: Path, empty_data_dir: Path) -> None:
    need("user-namespaces", "overlay")
    target = empty_data_dir / "figures.json"
    done = subprocess.run(
        [ROOT / "scripts/bench", "--quick", "--data", data_dir, "--json", target],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(target.read_text(encoding="utf-8"))
    tables = (
        "starts_ms",
        "relay_gb_per_s",
        "latency_ms",
        "connections_per_s",
        "names_per_s",
        "held_kb",
        "served",
        "builds_s",
    )
    assert set(found) == {"machine", *tables, "budgets"}
    ours = {each["name"] for table in tables for each in found[table] if "samples" in each}
    assert {wall.NAMES, wall.HELD, *wall.named(wall.TLS), *wall.named(wall.DIRECT)} <= ours
    assert {served.CREATE, served.EXEC} <= ours
    assert {"sandboxsh", "loopback, no session: in", "loopback, no session: out"} <= ours
    assert all(each.get("samples") or each["skipped"] for each in found["starts_ms"])
    assert "sandboxsh, TLS by name: out" in done.stdout


def test_a_share_and_an_addition_are_held_to_their_limits() -> None:
    series = [Series("ours", (2.0,)), Series("peer", (4.0,)), Series("absent", (), "not installed")]
    assert figures.share_budget(series, "ours", "peer", "x", least=0.5).met is True
    assert figures.share_budget(series, "ours", "peer", "x", least=0.6).met is False
    assert figures.share_budget(series, "ours", "peer", "x", most=0.5).met is True
    assert figures.share_budget(series, "ours", "peer", "x", most=0.4).met is False
    assert figures.share_budget(series, "ours", "absent", "x", least=0.6).met is None
    assert figures.added_budget(series, "peer", "ours", 2.0, "x").met is True
    assert figures.added_budget(series, "peer", "ours", 1.9, "x").met is False
    assert figures.added_budget(series, "absent", "ours", 1.9, "x").met is None


@pytest.mark.parametrize(
    ("most", "least", "met"), [(3.0, None, True), (1.0, None, False), (None, 2.0, True), (None, 3.0, False)]
)
def test_a_limit_is_above_or_below(most: float | None, least: float | None, met: bool) -> None:
    budget = figures.limit_budget([Series("ours", (2.0,))], "ours", "KB", most=most, least=least)
    assert (budget.met, budget.measured) == (met, "2.0 KB")
    assert figures.limit_budget([], "ours", "KB", most=most, least=least).met is None


def test_the_words_of_a_client_are_read_in_the_order_asked_for() -> None:
    assert wall.read_words("rate 10.5\nlatency 0.25\n", "latency", "rate") == (0.25, 10.5)
