"""The app: which screen is up, in which language and look, with which server. Screens do the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import ClassVar, cast

from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.filter import NoColor
from textual.screen import Screen

from appliance.errors import HearthError
from tui import language, look
from tui.backend import Backend, Door
from tui.choices import Choices
from tui.conversations import Conversations
from tui.feeds import Feeds
from tui.history import SECONDS, History, remembered, sample_of
from tui.host import Host
from tui.language import LANGUAGES, say
from tui.messages import Fed, Found
from tui.screens.base import HearthScreen
from tui.widgets.bars import Navigation

# place → (module, screen); in the order of their keys. A module is imported when its place is first gone to.
PLACES = {
    "overview": ("tui.screens.overview", "Overview"),
    "models": ("tui.screens.models", "Models"),
    "chat": ("tui.screens.chat", "Chat"),
    "knowledge": ("tui.screens.knowledge", "Knowledge"),
    "routing": ("tui.screens.routing", "Routing"),
    "access": ("tui.screens.access", "Access"),
    "audit": ("tui.screens.audit", "Audit"),
    "settings": ("tui.screens.settings", "Settings"),
    "doctor": ("tui.screens.doctor", "Doctor"),
}
SETUP = ("tui.screens.setup", "Setup")  # gone to by itself once, and from the palette
KEY_WANTED = ("missing_api_key", "invalid_api_key")


class HearthApp(Host):
    """`door` makes the client, given a key or none. `chats`: the directory of kept conversations."""

    CSS_PATH = Path(__file__).parent / "styles.tcss"
    TITLE = "Hearth"
    AUTO_FOCUS = None
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,f1", "help", "frame.help", key_display="?"),
        Binding("ctrl+p", "command_palette", "frame.palette_short", show=False, priority=True),
        Binding("ctrl+q", "quit", "frame.quit", priority=True, show=False),
        Binding("q", "quit", "frame.quit", show=False),
        Binding("ctrl+pagedown", "turn(1)", "frame.next_place", priority=True, show=False),
        Binding("ctrl+pageup", "turn(-1)", "frame.last_place", priority=True, show=False),
        Binding("ctrl+t", "next_theme", "frame.next_theme", show=False),
        Binding("ctrl+l", "next_language", "frame.next_language", show=False),
        *(
            Binding(f"{number},alt+{number}", f"go('{place}')", f"places.{place}", show=False)
            for number, place in enumerate(PLACES, start=1)
        ),
    ]

    def __init__(
        self, door: Callable[[str | None], Door], choices: Choices, chats: Path | None = None
    ) -> None:
        super().__init__()
        self._door = door
        self._choices = choices
        self.places = tuple(PLACES)
        self.history = History()
        self.conversations = Conversations(chats, is_keeping=choices.keeps_conversations)
        for theme in look.THEMES:
            self.register_theme(theme)
        self.theme = choices.theme
        language.use(choices.language)
        if choices.no_color:
            self.no_color = True
            self._filters.append(NoColor())
            self.theme = look.SIXTEEN
        if choices.ascii:
            self._filters.append(look.Ascii())
        for place, screen in PLACES.items():
            self.add_mode(place, partial(_screen, *screen))
        self.add_mode("setup", partial(_screen, *SETUP))

    def on_mount(self) -> None:
        self.backend = Backend(self._door(None))
        self.feeds = Feeds(self, self.backend)
        self.feeds.take(self, "status")
        self.switch_mode("overview")

    def on_fed(self, message: Fed) -> None:
        self.history.add(sample_of(message.value))

    def on_found(self, message: Found) -> None:
        self.run_worker(self._get_to_know(), name="get_to_know")

    async def _get_to_know(self) -> None:
        """What the server remembers, and whether anybody has set it up yet. A key may be wanted first."""
        with suppress(HearthError):
            past = await self.backend.run(lambda client: client.history(SECONDS))
            self.history.fill(map(remembered, past.data), past.step)
        if self._choices.offers_setup and not self._choices.is_set_up(self.backend.url):
            with suppress(HearthError):
                if not await self.backend.run(lambda client: client.keys()):
                    self.action_set_up()

    async def on_unmount(self) -> None:
        if hasattr(self, "backend"):  # it has begun: else the reason why it could not is worth telling
            await self.backend.close()

    # What keys and the palette do

    def action_go(self, place: str) -> None:
        if len(self.screen_stack) == 1:  # a question is answered first
            self.switch_mode(place)

    def action_set_up(self) -> None:
        self.action_go("setup")

    def set_up(self) -> None:
        self._choices.keep_set_up(self.backend.url)
        self._choices.offers_setup = False
        self.action_go("overview")

    def keep_conversations(self, keeps: bool) -> None:
        self.conversations.is_keeping = keeps
        self._choices.keep(keeps_conversations=keeps)

    def on_navigation_chosen(self, message: Navigation.Chosen) -> None:
        self.action_go(message.place)

    def action_turn(self, by: int) -> None:
        """To a neighbour of the screen: a key that does so in fields too, where digits are text."""
        here = self.places.index(self.current_mode) if self.current_mode in self.places else -by
        self.action_go(self.places[(here + by) % len(self.places)])

    def action_help(self) -> None:
        from tui.dialogs.help import Help

        if isinstance(self.screen, HearthScreen):
            self.push_screen(Help(self.screen))

    def action_next_theme(self) -> None:
        names = [theme.name for theme in look.THEMES]
        self.choose_theme(names[(names.index(self.theme) + 1) % len(names)])

    def choose_theme(self, name: str) -> None:
        self.theme = name
        self._choices.keep(theme=name)

    def action_next_language(self) -> None:
        names = list(LANGUAGES)
        self.choose_language(names[(names.index(language.current()) + 1) % len(names)])

    def choose_language(self, name: str) -> None:
        language.use(name)
        self._choices.keep(language=name)
        if isinstance(self.screen, HearthScreen):  # the others when they are next seen
            self.screen.refresh(recompose=True)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        for place in PLACES:
            yield SystemCommand(
                say(f"places.{place}"), say(f"places_help.{place}"), partial(self.action_go, place)
            )
        if isinstance(screen, HearthScreen):
            for active in screen.own_bindings():
                action = partial(screen.run_action, active.binding.action)
                yield SystemCommand(active.binding.description, say(f"places.{screen.NAME}"), action)
        for name, own_name in LANGUAGES.items():
            yield SystemCommand(
                f"{say('frame.language')}: {own_name}", own_name, partial(self.choose_language, name)
            )
        for theme in look.THEMES:
            yield SystemCommand(
                f"{say('frame.theme')}: {say(f'theme.{theme.name}')}",
                say("frame.theme_help"),
                partial(self.choose_theme, theme.name),
            )
        yield SystemCommand(say("places.setup"), say("places_help.setup"), self.action_set_up)
        yield SystemCommand(say("frame.help"), say("frame.help_help"), self.action_help)
        yield SystemCommand(say("frame.quit"), say("frame.quit_help"), self.action_quit)

    # Keys to the server

    def refused(self, error: HearthError) -> None:
        """The server wants a key, or another one: ask for it, once at a time."""
        from tui.dialogs.key import KeyQuestion

        if error.detail_code in KEY_WANTED and not isinstance(self.screen, KeyQuestion):
            self.push_screen(KeyQuestion(error.message), self._take_key)

    def _take_key(self, key: str | None) -> None:
        if key:
            self.use_key(key)

    def use_key(self, key: str) -> None:
        self.backend.reopen(self._door(key))
        self.feeds.forget()
        self.run_worker(self._get_to_know(), name="get_to_know")


def _screen(module: str, name: str) -> HearthScreen:
    return cast(HearthScreen, getattr(import_module(module), name)())
