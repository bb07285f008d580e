"""Sets up .venv from the locks: ``python3 build/bootstrap.py run`` (to serve) or ``dev`` (to test);
``clients`` sets up .venv-clients beside it.

Only the entry: it owns the refusal of an unfit Python, which must work on any Python, and the exit
status. A second run with nothing to do costs one hash of the lock and touches neither pip nor network.
"""

import sys

WANTED_PYTHON = (3, 11)


def main() -> int:
    """Exit status: 0 set up, 1 failed with a reason, 2 wrong use, 130 interrupted."""
    if sys.version_info[:2] != WANTED_PYTHON:
        found = "{}.{}".format(*sys.version_info[:2])
        sys.stderr.write(
            f"hearth set-up: Python 3.11 is needed, this is {found}.\n"
            "  Install it (Debian 12 has it: apt-get install python3.11-venv), or name one: "
            "make run PYTHON=/path/to/python3.11\n"
        )
        return 1
    if len(sys.argv) != 2 or sys.argv[1] not in ("run", "dev", "clients"):
        sys.stderr.write("usage: python3 build/bootstrap.py run|dev|clients\n")
        return 2

    from clients_environment import ensure_clients
    from setup_environment import ensure_environment
    from setup_failure import SetupError, report
    from setup_layout import LOG

    try:
        ensure_environment(dev=sys.argv[1] != "run")
        if sys.argv[1] == "clients":
            ensure_clients()
    except SetupError as error:
        sys.stderr.write(report(error, str(LOG)))
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nhearth set-up: stopped. Finished parts are kept; run it again to go on.\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
