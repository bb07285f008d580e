"""The terminal UI: what an operator sees and does, as a client of the admin API like any other.

    start.py            choices of the command line to a running app
    app.py              the app: which screen is up, language, look, connection
    host.py             what a screen finds in the app
    backend.py          the one owner of the HTTP client; runs calls on few threads, any can be cancelled
    clock.py            the time
    choices.py          what the operator chose, in a small file
    files.py            files that are written here: new, whole, private
    feeds.py            what is asked again and again, and which screen wants it
    messages.py         what the parts tell each other
    language.py texts/  every sentence, in English and Chinese
    look.py styles.tcss colours, no colours, ASCII
    format.py           numbers, sizes and times as text
    screens/            one a file, on `screens.base`; messages in, client calls out
    dialogs/            questions that a screen asks and waits for
    widgets/            parts that several screens use

Knows the client, its records and errors; no room of the server. docs/TUI.md says how a screen is added.
"""
