"""Where every Hearth process begins: the command line, or a worker that the gateway started.

Workers branch off first, so that they import neither the command line nor the web server.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    if len(sys.argv) == 5 and sys.argv[1] == "worker":
        return worker(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    if len(sys.argv) > 2 and sys.argv[1] == "sealed":
        return sealed(sys.argv[2:])
    from appliance.cli.main import run

    return run()


def sealed(command: list[str]) -> int:
    """Become another program, which can open no network socket, and nothing that it starts can."""
    from appliance.security.seal import seal

    if not seal():
        print("this kernel takes no filter: the program is not kept from the network", file=sys.stderr)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", file=sys.stderr)
    return 127


def worker(role: str, descriptor: int, parent: int) -> int:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime is imported
    if role == "probe":
        import msgspec

        from appliance.doctor import probe_engines

        sys.stdout.buffer.write(msgspec.json.encode(probe_engines()))
        return 0
    from appliance.security.egress import EgressGuard
    from appliance.security.seal import seal
    from appliance.workers.process import become_worker

    if not seal():  # whatever the mode: no worker has anything to say to a network
        EgressGuard(is_offline=True).install()
    connection = become_worker(descriptor, parent)
    if role == "generator":
        from appliance import generator

        return generator.run(connection)
    if role == "extractor":
        from appliance.knowledge.extract import process

        return process.run(connection)
    from appliance import encoder

    return encoder.run(connection)


if __name__ == "__main__":
    sys.exit(main())
