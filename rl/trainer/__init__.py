"""The trainer process: `python -m cosignal.rl.trainer.process RUN_DIR`."""
