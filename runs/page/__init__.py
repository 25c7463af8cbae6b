"""`cosignal view`: runs as local web pages. `serve` is the command; `create_app` is the ASGI application alone."""

from __future__ import annotations

from .app import create_app
from .serve import serve

__all__ = ["create_app", "serve"]
