"""`hearth`: the root command, its lazily loaded sub-commands, and how errors leave the program."""

from __future__ import annotations

import importlib
import sys

import click

from appliance.errors import HearthError
from models.errors import ModelError

# command → (module, attribute, short help). The help is here so that `hearth --help` imports nothing.
COMMANDS = {
    "serve": ("appliance.cli.serve", "serve", "Start the server."),
    "chat": ("appliance.cli.chat", "chat", "Talk to a model in the terminal."),
    "ask": ("appliance.cli.chat", "ask", "Ask one question and print the answer."),
    "tui": ("appliance.cli.tui", "tui", "Manage a server in the terminal."),
    "kb": ("appliance.cli.kb", "kb", "Make, fill, search and export knowledge bases."),
    "keys": ("appliance.cli.keys", "keys", "Make, list, replace and end keys."),
    "route": ("appliance.cli.route", "route", "Show who answers, local or online, and why."),
    "models": ("appliance.cli.models", "models", "List, fetch, add, check, remove, load and unload models."),
    "config": ("appliance.cli.config", "config", "Show, check, compare and roll back the settings."),
    "backup": ("appliance.cli.backup", "backup", "Put the whole home into one file, while it is in use."),
    "restore": ("appliance.cli.backup", "restore", "Put a backup back into this home."),
    "audit": ("appliance.cli.audit", "audit", "Read, follow and check the audit log."),
    "doctor": ("appliance.cli.doctor", "doctor", "Look at this machine and say what fits and what is wrong."),
    "support-bundle": (
        "appliance.cli.support",
        "support_bundle",
        "Collect what somebody who helps needs to see, without secrets.",
    ),
    "bundle": ("appliance.cli.bundle", "bundle", "Make or examine a one-file executable."),
    "pack": ("appliance.cli.pack", "pack", "Make and install signed packs for machines without a network."),
    "signing-key": (
        "appliance.cli.signing_key",
        "signing_key",
        "Make keys that sign packs and executables; manage whose are accepted.",
    ),
    "install": ("appliance.cli.install", "install", "Install this executable, as a service if wanted."),
    "uninstall": ("appliance.cli.install", "uninstall", "Remove the executable and its service."),
    "selftest": ("appliance.cli.selftest", "selftest", "Try everything this executable does, on itself."),
    "version": ("appliance.cli.version", "version", "Print the version."),
}


class _Commands(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `hearth serve`, then `hearth chat` in another terminal. Every setting can be given in "
    "hearth.toml, as a HEARTH_… variable or as a flag: `hearth config` lists them. Data lives in "
    "$HEARTH_HOME.",
)
def hearth() -> None:
    """Hearth: chat, embeddings and rerank from local models, behind the OpenAI API."""


def run() -> int:
    """The whole command line. Returns the exit status: 0 done, 1 failed, 2 wrong usage."""
    try:
        result = hearth.main(standalone_mode=False)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        print("\nstopped", file=sys.stderr)
        return 130
    except (HearthError, ModelError) as error:
        print(f"hearth: {error.message}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stdout = None  # nobody reads what is left
        return 141
    return result if isinstance(result, int) else 0
