"""`python -m cosignal.rl.trainer RUN_DIR` runs the trainer process."""

import sys
from pathlib import Path

from ..processes import run_process
from .process import main

if __name__ == "__main__":
    run_process(lambda closing: main(Path(sys.argv[1]), closing))
