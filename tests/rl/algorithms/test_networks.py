"""Drawing actions, on numbers worked out by hand."""

import numpy as np
import pytest
from cosignal.rl.algorithms.networks.sampling import sample_categorical


def test_sampling_by_inversion_takes_each_action_for_its_share_of_the_numbers() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25]], np.float32)).repeat(8, axis=0)
    uniform = np.array([0.0, 0.499, 0.501, 0.749, 0.751, 0.999, 0.25, 0.99999994], np.float32)
    actions, logp = np.empty(8, np.int64), np.empty(8, np.float32)
    sample_categorical(logits, uniform, actions, logp)
    assert actions.tolist() == [0, 0, 1, 1, 2, 2, 0, 2]
    assert np.exp(logp) == pytest.approx([0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.5, 0.25], abs=1e-6)
