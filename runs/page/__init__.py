"""The local web pages of `cosignal view`. `serve` is the command; `create_app` is the ASGI application alone.

A request passes `auth`, reaches an address of `app`, which finds the run in `run_index`, reads it into what a template
of `templates/` shows by `content`, and returns HTML. Pages only read; forms write replays, and the answer to a
promotion that waits. The two things that take long, playing an episode and asking a recorded call again, run beside the
server. In reading order:

* `server`: serves the application on this machine.
* `app`: the application, an address for each page.
* `auth`: lets only those in who have the token.
* `run_index`: the runs that are shown, by name.
* `content`: what each page shows, read from the run directory.
* `confirmations`: what the viewer has allowed runs to load.
* `replay_jobs`: recorded calls that are asked again from a page.
* `playback`: episodes that recorded policies play.

Nothing here imports the graph: what needs it is handed to `create_app`.
"""

from __future__ import annotations

from .app import create_app
from .server import serve

__all__ = ["create_app", "serve"]
