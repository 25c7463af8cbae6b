"""`python -m cosignal` is the command `cosignal`."""

from .cli import app

if __name__ == "__main__":
    app(prog_name="cosignal")
