"""A child that answers `rl.child.Child` as its request says: `python -m answering`."""

from __future__ import annotations

import os
import time

from cosignal.errors import SnapshotError
from cosignal.rl.child import Parent


def main() -> None:
    parent = Parent()
    with parent.hears_errors():
        match parent.request:
            case "error":
                raise SnapshotError("no such file; restore it")
            case "slow":
                for _ in range(4):  # alive all the time, and longer at it than it may stay in one place
                    parent.at("working", 0.6)
                    time.sleep(0.3)
                parent.answer({"keys": sorted(name for name in os.environ if name in ("MY_SECRET", "MORE"))})
            case "hang":
                parent.at("hanging", 60)
                time.sleep(600)


if __name__ == "__main__":
    main()
