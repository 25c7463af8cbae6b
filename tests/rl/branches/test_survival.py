"""Who trains the next rung: hand-made histories, laws, adversaries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from cosignal.rl.branches.config import RaceConfig
from cosignal.rl.branches.movement import Reached, moved, paid_by, pooled, shares
from cosignal.rl.branches.survival import FRESH_RUNGS, ArmHistory, survivors
from cosignal.rl.ipc.messages import EpisodeStats
from cosignal.rl.signals.signal import Signal
from cosignal.rl.task import EventSpec, FeatureSpec, GroupSpec, TaskSpec
from hypothesis import given
from hypothesis import strategies as st

CONFIG = RaceConfig(rungs=12, longest=24)
MARGIN = 0.1


def arm(
    name: str,
    means: Sequence[float],
    moved: Sequence[Sequence[str]] | None = None,
    kind: str = "candidate",
    sd: float = 0.5,
) -> ArmHistory:
    n = len(means)
    return ArmHistory(name, kind, list(means), [sd] * n, [32] * n, moved or [[]] * n)


def race(
    arms: Mapping[str, Sequence[float]],
    control: Sequence[float],
    moves: Mapping[str, Callable[[int], list[str]]] | None = None,
    kinds: Mapping[str, str] | None = None,
    config: RaceConfig = CONFIG,
    margin: float = MARGIN,
    main_at_age: Sequence[float | None] = (),
) -> dict[str, int]:
    """Return by arm the rung after which it was dropped; `control` begins at the fork."""
    live, ended = list(arms), {}
    for rung in range(1, len(control)):
        histories = [
            arm(
                name,
                arms[name][:rung],
                [moves[name](k) if moves and name in moves else [] for k in range(1, rung + 1)],
                (kinds or {}).get(name, "kick" if name == "kick" else "candidate"),
            )
            for name in live
        ]
        dropped = survivors(histories, control[: rung + 1], margin=margin, config=config, main_at_age=main_at_age)
        ended |= dict.fromkeys(dropped, rung)
        live = [name for name in live if name not in dropped]
    return ended


# ------------------------------------------------------------ hand-made histories


LEVELS = {"a": 0.94, "b": 0.92, "c": 0.9, "d": 0.88, "e": 0.86}


def test_halves_late_where_nobody_rises() -> None:
    ended = race({name: [level] * 12 for name, level in LEVELS.items()}, [0.95] * 13)
    assert ended == {"c": 7, "d": 7, "e": 7, "b": 10, "a": 12}


def test_an_arm_that_rises_halves_at_once() -> None:
    # b moves once, at the third rung: with it the best of the others stays. At its second movement nobody does who is
    # not above the main line.
    once = race({name: [level] * 5 for name, level in LEVELS.items()}, [0.95] * 6, {"b": lambda k: ["goal"] * (k == 3)})
    assert once == {"c": 3, "d": 3, "e": 3}
    arms = {name: [level] * 4 for name, level in LEVELS.items()}
    firm = race(arms, [0.93] * 5, {"b": lambda k: ["goal"] * (k >= 3)})
    assert firm == {"c": 3, "d": 3, "e": 3}
    firm = race(arms, [0.95] * 5, {"b": lambda k: ["goal"] * (k >= 2)})
    assert firm == {"a": 3, "c": 3, "d": 3, "e": 3}


def test_a_lead_within_the_noise_is_not_firm() -> None:
    # b leads by 0.2 with a standard error of 0.5 / 8: beside it the better half stays, whatever the main line returns.
    # With a standard error of 0.1 / 8 it leads clearly, and all yield that are not above the main line.
    others = [arm(name, [level] * 4) for name, level in LEVELS.items() if name != "b"]
    unclear, clear = arm("b", [1.15] * 4, sd=0.5), arm("b", [1.15] * 4, sd=0.1)
    assert set(survivors([unclear, *others], [0.95] * 5, margin=MARGIN, config=CONFIG)) == {"c", "d", "e"}
    assert set(survivors([clear, *others], [0.95] * 5, margin=MARGIN, config=CONFIG)) == {"a", "c", "d", "e"}


def test_one_look_at_movement_drops_nobody_that_scores_alike() -> None:
    arms = {name: [0.0] * 6 for name in LEVELS}
    assert race(arms, [0.0] * 7, {"b": lambda k: ["goal"] * (k == 4)}) == {}
    assert race(arms, [0.0] * 7, {"b": lambda k: ["goal"] * (k in (4, 6))}) == dict.fromkeys("acde", 6)


def test_the_losers_of_two_rungs_may_win() -> None:
    # Seed 210 of the prototype: p0 trails the control, wins at the fourth rung.
    arms = {"kick": [0.98, 1.0, 1.0, 1.0], "p0": [0.97, 0.95, 1.14, 2.07], "p1": [0.8, 0.9, 1.0, 1.0]}
    assert "p0" not in race(arms, [1.0] * 5)


def test_a_dip_is_no_loss_yet() -> None:
    # A potential towards a goal behind a door: 0.8 below for 50,000 steps, above from the seventh rung on.
    arms = {"kick": [1.0] * 8, "dip": [0.2, 0.2, 0.2, 0.9, 1.0, 1.2, 1.9, 2.5], "turn": [-1.0] * 8, "flip": [0.1] * 8}
    assert "dip" not in race(arms, [1.0] * 9)


def test_two_of_six_reach_the_last_subgoal_but_one() -> None:
    # All return nothing; p2 and p5 charge the altar in 47 % and 90 % of their episodes, from the eighth rung on.
    names = ["kick", "p0", "p1", "p2", "p3", "p5"]
    moves = {name: (lambda rung: ["altar_charged"] if rung >= 8 else []) for name in ("p2", "p5")}
    ended = race({name: [0.0] * 23 for name in names}, [0.0] * 24, moves)
    assert set(ended) == {"kick", "p0", "p1", "p3"}
    assert set(ended.values()) == {9}


def test_nobody_moves() -> None:
    # Where all return nothing and nobody moves, all have the same rungs and no more.
    ended = race({name: [0.0] * 20 for name in ("kick", "p0", "p1")}, [0.0] * 21)
    assert ended == {"kick": 12, "p0": 12, "p1": 12}


def test_the_longest_race_ends_whatever_moves() -> None:
    ended = race({"p0": [3.0] * 30}, [0.0] * 31, {"p0": lambda _: ["goal"]})
    assert ended == {"p0": CONFIG.longest}


def test_a_movement_holds_for_two_looks() -> None:
    ended = race({"p0": [0.0] * 20}, [0.0] * 21, {"p0": lambda rung: ["goal"] if rung == 12 else []})
    assert ended == {"p0": 14}


def test_falls_clearly_behind() -> None:
    # Not before its sixth rung, and then at once.
    few = RaceConfig()
    assert survivors([arm("p0", [-1.0] * 5)], [1.0] * 6, margin=MARGIN, config=few) == {}
    assert set(survivors([arm("p0", [-1.0] * 6)], [1.0] * 7, margin=MARGIN, config=few)) == {"p0"}
    assert race({"kick": [1.0] * 6, "p0": [-1.0] * 6}, [1.0] * 7) == {"p0": 6}
    # An arm that moves may trail the main line, but not an arm that rises as well.
    moving = arm("p0", [-1.0] * 6, [["goal"]] * 6)
    assert survivors([moving], [1.0] * 7, margin=MARGIN, config=few) == {}
    better = arm("p1", [2.0] * 6)
    assert set(survivors([moving, better], [1.0] * 7, margin=MARGIN, config=few)) == {"p0"}


def test_a_fresh_start_is_judged_at_its_own_age() -> None:
    kinds = {"fresh": "fresh_start"}
    arms = {"fresh": [-0.5] * 20, "p0": [1.0] * 20}
    # Far below the control and the other arm, but where the main line was: it has until its sixteenth rung.
    ended = race(arms, [1.0] * 21, kinds=kinds, main_at_age=[-0.5] * 20)
    assert ended["fresh"] == FRESH_RUNGS
    # Clearly below the main line at equal age.
    assert race(arms, [1.0] * 21, kinds=kinds, main_at_age=[0.5] * 20)["fresh"] == 6
    # Nothing known of it: no judgement.
    assert race(arms, [1.0] * 21, kinds=kinds, main_at_age=[None] * 20)["fresh"] == FRESH_RUNGS
    # Rising: it is not dropped at all, and may go on in the next race, unlike the others.
    rising = {"fresh": [-0.5] * 10 + [2.0] * 14, "p0": [2.0] * 24}
    assert race(rising, [1.0] * 25, kinds=kinds, main_at_age=[-0.5] * 24) == {"p0": CONFIG.longest}


def test_a_fresh_start_is_as_old_as_it_was_in_the_race_before_and_has_two_looks_in_this_one() -> None:
    def ends(looks: int, before: int) -> bool:
        fresh = replace(arm("fresh", [1.0] * looks), kind="fresh_start", rungs_before=before)
        return bool(survivors([fresh], [1.0] * (looks + 1), margin=MARGIN, config=CONFIG))

    assert not ends(5, FRESH_RUNGS - 6) and ends(6, FRESH_RUNGS - 6)
    assert not ends(1, FRESH_RUNGS) and ends(2, FRESH_RUNGS)


# ------------------------------------------------------------ adversaries

SEEDS = range(40)


def played(rng: np.random.Generator, truth: Sequence[float], sd: float = 0.4) -> list[float]:
    """Return looks of 32 episodes at policies of the mean returns `truth`."""
    return [float(value + rng.normal(0, sd / np.sqrt(32))) for value in truth]


@pytest.mark.parametrize(
    ("adversary", "truth"),
    [
        ("corner", [-0.9, -0.5, -0.2, 0.0]),  # dips, and comes back to what the kick has
        ("flood", [0.0]),  # does as the kick does, beside its events
        ("turn", [-1.7]),
    ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_adversaries_get_no_more_rungs_than_the_kick(adversary: str, truth: list[float], sparse: bool) -> None:
    rungs: dict[str, list[int]] = {"kick": [], adversary: []}
    for seed in SEEDS:
        rng, length = np.random.default_rng(seed), 16
        gains = {"kick": [0.0] * length, adversary: (truth + truth[-1:] * length)[:length], "p0": [0.0] * length}
        zero = [0.0] * length
        arms = {name: zero if sparse else [1 + x for x in played(rng, gain)] for name, gain in gains.items()}
        control = [0.0 if sparse else 1.0] * (length + 1)
        ended = race(arms, control)
        for name, values in rungs.items():
            values.append(ended[name])
    more = np.array(rungs[adversary]) - np.array(rungs["kick"])
    if sparse or adversary == "turn":
        assert (more <= 0).all()
    else:  # alike but for chance, which favours nobody
        assert more.mean() <= 2 * more.std() / len(SEEDS) ** 0.5


TASK = TaskSpec(
    name="rooms",
    description="",
    groups=(
        GroupSpec(
            name="agents",
            agents=("a", "b"),
            obs_size=4,
            n_actions=3,
            features=(
                FeatureSpec(name="x", kind="position", low=0, high=8),
                FeatureSpec(name="dist_mate", kind="distance", low=0, high=8),
            ),
            events=(
                EventSpec(name="altar_charged"),
                EventSpec(name="lever_pulled"),
                EventSpec(name="turned", repeatable=True),
            ),
        ),
    ),
)
# Chances to reach milestones 1, 2, … times in an episode: what every policy does, and what each signal makes of it.
ALIKE = {"altar_charged": 0.01, "lever_pulled": 0.05, "turned": 0.6, "at dist_mate": 0.2}
PUSHED: dict[str, tuple[Signal, dict[str, float]]] = {
    "corner": (
        Signal.model_validate({"terms": [{"name": "c", "kind": "potential", "expression": "-x"}]}),
        {"at dist_mate": 1.0},
    ),
    "flood": (
        Signal.model_validate({"terms": [{"name": "f", "kind": "event", "event": "lever_pulled"}]}),
        {"lever_pulled": 1.0},
    ),
    "turn": (Signal(), {"turned": 1.0}),
    "right": (Signal(), {"altar_charged": 0.5}),
    "flood that nobody pays for": (Signal(), {"lever_pulled": 1.0}),  # the twin that must get more
}


def looked_at(rng: np.random.Generator, chances: Mapping[str, float]) -> Reached:
    """Play 32 episodes; what is reached at all is reached 1 to 4 times."""
    counts = {
        name: (rng.random(32) < chance) * rng.integers(1, 3 if name.startswith("at ") else 5, 32)
        for name, chance in chances.items()
    }
    reached = {name: values.tolist() for name, values in counts.items()}
    played = EpisodeStats(returns=[0.0] * 32, successes=None, lengths=[9] * 32, reached=reached, steps=288)
    return Reached(shares(played), 32)


@pytest.mark.parametrize("push", list(PUSHED))
def test_no_push_but_the_right_one_buys_rungs(push: str) -> None:
    # Nobody returns anything, so all rungs beyond the first horizon come from what the episodes reached.
    signal, chances = PUSHED[push]
    more = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        control = [looked_at(rng, ALIKE)]
        movement: dict[str, list[list[str]]] = {"kick": [], push: []}
        for _ in range(16):
            control.append(looked_at(rng, ALIKE))
            for name, paid, does in (("kick", Signal(), {}), (push, signal, chances)):
                reached = looked_at(rng, ALIKE | does)
                movement[name].append(moved(reached, pooled(control), paid_by(paid, TASK), TASK))
        moves = {name: (lambda rung, found=found: found[rung - 1]) for name, found in movement.items()}
        ended = race({name: [0.0] * 16 for name in movement}, [0.0] * 17, moves)
        more.append(ended.get(push, 99) - ended.get("kick", 99))
    if push in ("corner", "flood", "turn"):
        assert np.mean(more) <= 0.5
    else:
        assert np.mean(more) > 80


# ------------------------------------------------------------ laws

RETURNS = st.floats(-1, 4).map(lambda x: round(x, 3))


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[ArmHistory], list[float]]:
    rung = draw(st.integers(1, CONFIG.longest - 1))
    kinds = ["candidate", "candidate", "kick", "candidate", "fresh_start", "carried"]
    arms = []
    for i in range(draw(st.integers(1, 6))):
        age = draw(st.integers(1, rung))
        looks = st.lists(RETURNS, min_size=age, max_size=age)
        movement = st.lists(st.sampled_from([[], [], ["goal"]]), min_size=age, max_size=age)
        arms.append(arm(f"arm{i}", draw(looks), draw(movement), kinds[i]))
    return arms, draw(st.lists(RETURNS, min_size=rung + 1, max_size=rung + 1))


@given(histories())
def test_the_arm_that_leads_goes_on(case: tuple[list[ArmHistory], list[float]]) -> None:
    arms, control = case
    dropped = survivors(arms, control, margin=MARGIN, config=CONFIG)
    racing = [x for x in arms if x.kind != "fresh_start"]
    if racing:
        best = max(racing, key=lambda x: x.score)
        if best.score > max(control) + MARGIN:
            assert best.name not in dropped


@given(histories(), st.randoms())
def test_names_and_order_do_not_matter(case: tuple[list[ArmHistory], list[float]], random: object) -> None:
    arms, control = case
    order = list(range(len(arms)))
    random.shuffle(order)  # type: ignore[attr-defined]
    renamed = [
        ArmHistory(f"z{i}", arms[i].kind, arms[i].means, arms[i].sds, arms[i].episodes, arms[i].moved) for i in order
    ]
    first = survivors(arms, control, margin=MARGIN, config=CONFIG)
    second = survivors(renamed, control, margin=MARGIN, config=CONFIG)
    assert {f"z{name.removeprefix('arm')}" for name in first} == set(second)


@given(histories(), st.sampled_from([0.125, 2.0, 64.0]))
def test_the_scale_of_returns_does_not_matter(case: tuple[list[ArmHistory], list[float]], factor: float) -> None:
    arms, control = case
    scaled = [
        ArmHistory(x.name, x.kind, [factor * m for m in x.means], [factor * s for s in x.sds], x.episodes, x.moved)
        for x in arms
    ]
    first = survivors(arms, control, margin=MARGIN, config=CONFIG)
    second = survivors(scaled, [factor * c for c in control], margin=factor * MARGIN, config=CONFIG)
    assert set(first) == set(second)


@given(histories(), st.integers(1, 12))
def test_without_movement_nobody_outlives_the_first_horizon(
    case: tuple[list[ArmHistory], list[float]], rungs: int
) -> None:
    arms, control = case
    dropped = survivors(arms, control, margin=MARGIN, config=RaceConfig(rungs=rungs))
    for x in arms:
        if x.kind != "fresh_start" and x.age >= rungs and not x.moves and x.score <= min(control):
            assert x.name in dropped


def test_an_arm_that_joins_late_has_its_own_horizon() -> None:
    # At the seventh rung it is two rungs old: neither halved nor at its end.
    arms = [arm("p0", [1.2] * 7), arm("p1", [1.1] * 7), arm("late", [0.5] * 2)]
    assert survivors(arms, [1.15] * 8, margin=MARGIN, config=CONFIG) == {
        "p1": "returns 1.1 after 7 rungs; the better half goes on"
    }
    late = arm("late", [0.5] * 5)
    assert "late" not in survivors([arm("p0", [0.5] * 12), late], [0.5] * 13, margin=MARGIN, config=CONFIG)


def test_a_fresh_start_that_moves_does_not_displace_others() -> None:
    fresh = arm("fresh", [0.0] * 4, [["goal"]] * 4, "fresh_start")
    others = [arm("kick", [0.0] * 4, kind="kick"), arm("p0", [0.0] * 4)]
    assert survivors([*others, fresh], [0.0] * 5, margin=MARGIN, config=CONFIG) == {}
    # A candidate that moves does: the twin that must differ.
    moving = arm("p1", [0.0] * 4, [["goal"]] * 4)
    assert set(survivors([*others, moving], [0.0] * 5, margin=MARGIN, config=CONFIG)) == {"kick", "p0"}


def test_arms_that_join_later_are_halved_by_their_own_age() -> None:
    """Three join after rung 10; at rung 13 they are as young as any in a dip."""
    late = [arm(name, [score] * 3) for name, score in (("a", 1.45), ("b", 1.9), ("c", 1.15))]
    assert survivors(late, [2.0] * 14, margin=MARGIN, config=CONFIG) == {}
    older = [arm(name, [score] * 7) for name, score in (("a", 1.95), ("b", 1.98), ("c", 1.93))]
    assert set(survivors(older, [2.0] * 18, margin=MARGIN, config=CONFIG)) == {"a", "c"}
