"""What a process need not import."""

from __future__ import annotations

import subprocess
import sys


def test_the_loop_process_does_not_import_torch() -> None:
    code = "import sys, cosignal, cosignal.graphs.session.run; assert 'torch' not in sys.modules, 'torch'"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_reading_a_config_imports_neither_langchain_nor_torch() -> None:
    code = (
        "import sys, cosignal; cosignal.RunConfig().training();"
        "heavy = {name.partition('.')[0] for name in sys.modules} & {'torch', 'langchain_core', 'langgraph', 'numba'};"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
