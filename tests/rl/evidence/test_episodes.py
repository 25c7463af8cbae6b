"""Fresh episodes as text: whole from first to last step, the same again, and nothing of the line changes."""

from __future__ import annotations

import re

import numpy as np
import pytest
from cosignal.rl.evidence.episodes import MAX_LINES, lines_shown, play_episodes
from cosignal.rl.training.line import TrainingLine
from hypothesis import given
from hypothesis import strategies as st
from training_lines import small_config, trained


def test_a_policy_that_never_succeeds_plays_one_failed_episode() -> None:
    line = trained(small_config(), 3)
    (episode,), steps = play_episodes(line)
    assert (episode.outcome, episode.length, steps) == ("failed", 30, 30)
    assert episode.lines[0].startswith("step 1: green ") and episode.lines[-1].startswith("step 30: green ")
    assert len(episode.lines) == MAX_LINES and episode.lines[-1].endswith("time limit")


def test_the_same_line_plays_the_same_and_is_not_changed_by_it() -> None:
    line, other = trained(small_config(), 3), trained(small_config(), 3)
    assert play_episodes(line) == play_episodes(line) == play_episodes(other)
    for one in (line, trained(small_config(), 3)):
        one.update()
    arrays, again = line.state_dict()[0], one.state_dict()[0]
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, again[name], err_msg=name)


def test_both_outcomes_are_looked_for_where_both_occur() -> None:
    line = TrainingLine(small_config())
    line.episodes.finished = 4
    line.episodes.ring["successes"][:4] = [0, 1, 0, 1]
    episodes, steps = play_episodes(line)
    assert [episode.outcome for episode in episodes] == ["failed"]  # a policy that has learnt nothing, three times
    assert steps == 90


@given(st.integers(1, 300), st.lists(st.integers(0, 299), unique=True, max_size=40))
def test_lines_are_few_in_order_and_have_both_ends(length: int, events: list[int]) -> None:
    eventful = sorted(step for step in events if step < length)
    shown = lines_shown(length, eventful)
    assert shown == sorted(set(shown)) and len(shown) == min(length, MAX_LINES)
    assert (shown[0], shown[-1]) == (0, length - 1)
    if len(eventful) <= MAX_LINES - 2:
        assert set(eventful) <= set(shown)


@pytest.mark.parametrize(
    ("length", "eventful", "shown"),
    [
        (3, [], [0, 1, 2]),
        (100, [40], [0, 10, 20, 30, 40, 54, 61, 69, 76, 84, 91, 99]),
        (100, list(range(1, 99)), [0, 1, 2, 3, 4, 5, 94, 95, 96, 97, 98, 99]),
    ],
)
def test_lines_by_hand(length: int, eventful: list[int], shown: list[int]) -> None:
    assert lines_shown(length, eventful) == shown


def test_a_failed_episode_is_drawn_where_it_began_went_idle_and_ended() -> None:
    (episode,), _ = play_episodes(trained(small_config(), 3))
    assert episode.last_event is not None
    assert [picture.after_step for picture in episode.pictures] == sorted({0, episode.last_event, 30})
    for picture in episode.pictures:
        rows = picture.text.split("\n")
        assert len(rows) == 10 and rows[0] == "# " * 8 + "#"
    # The line of the last step and its picture are of one state.
    x, y = (int(number) for number in re.findall(r"green at \((\d),(\d)\)", episode.lines[-1])[0])
    assert episode.pictures[-1].text.split("\n")[y][2 * x] == "g"
