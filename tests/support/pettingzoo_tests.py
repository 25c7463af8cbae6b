"""PettingZoo's own tests of an environment. With pygame installed, their module imports games by names that warn."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from pettingzoo.test import parallel_api_test, parallel_seed_test

__all__ = ["parallel_api_test", "parallel_seed_test"]
