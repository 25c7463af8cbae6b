"""What a viewer has allowed runs to load, since this server started: each on a page that showed exactly that.

A confirmation is a form, which `auth` takes from our own pages alone. It carries a seal of what was shown, made with a
secret of this server: a file that was changed meanwhile asks again, and no run directory can make one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import astuple, replace

from ..trust import Trust, Wish


class Confirmations:
    """The viewer's trust, which grows by what he confirms.

    Attributes:
        trust: what is allowed by now.
    """

    def __init__(self, trust: Trust) -> None:
        self.trust = trust
        self._secret = secrets.token_bytes(32)

    def seal(self, wishes: Sequence[Wish]) -> str:
        """Return the seal of the page that shows these wishes."""
        shown = json.dumps([astuple(wish) for wish in wishes])
        return hmac.new(self._secret, shown.encode(), hashlib.sha256).hexdigest()

    def confirm(self, wishes: Sequence[Wish], seal: str) -> bool:
        """Allow the wishes where the seal is that of a page that showed them; return whether it is."""
        is_shown = hmac.compare_digest(self.seal(wishes).encode(), seal.encode())
        if is_shown:
            self.trust = replace(self.trust, wishes=self.trust.wishes | set(wishes))
        return is_shown
