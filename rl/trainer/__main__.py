"""`python -m cosignal.rl.trainer RUN_DIR` runs the trainer process."""

import sys
from pathlib import Path

from .process import main

if __name__ == "__main__":
    main(Path(sys.argv[1]))
