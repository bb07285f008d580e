"""What a screen finds in its app."""

from __future__ import annotations

from textual.app import App

from appliance.errors import HearthError
from tui.backend import Backend
from tui.conversations import Conversations
from tui.feeds import Feeds
from tui.history import History


class Host(App[None]):
    """`backend` makes calls, `feeds` asks again and again, `history` and `conversations` remember; `places`
    can be gone to.
    """

    places: tuple[str, ...]
    backend: Backend
    feeds: Feeds
    history: History
    conversations: Conversations

    def use_key(self, key: str) -> None:
        """Speak to the server with this key from now on."""
        raise NotImplementedError

    def keep_conversations(self, keeps: bool) -> None:
        """Whether they are written down from now on."""
        raise NotImplementedError

    def set_up(self) -> None:
        """The setup of this server was finished or skipped: it is not offered again."""
        raise NotImplementedError

    def refused(self, error: HearthError) -> None:
        """A feed was refused."""
        raise NotImplementedError
