"""Rehearses the executable on a machine with nothing: ``python build/rehearse.py EXECUTABLE``.

Its self-test runs in a root that holds a C library and its loader, /proc, a few device files and the
executable; in a network namespace without any interface but loopback; on a file system that is read-only but
for the home. It needs no root: everything happens in namespaces of an unprivileged user. Ends with the
self-test's own status.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setup_failure import Failure, SetupError, report

LIBRARIES = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1")
LIBRARY_FOLDER = Path("/lib/x86_64-linux-gnu")
LOADER = Path("/lib64/ld-linux-x86-64.so.2")
DEVICES = ("null", "zero", "random", "urandom")
MOST_SECONDS = 900

# Runs as the first process of the new namespaces, with the root's path as $1. Loopback is brought up by the
# one tool that a bare machine has: the self-test binds to 127.0.0.1.
INSIDE = """
set -e
root="$1"; shift
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/home"
for device in {devices}; do
    : > "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
{loopback}
mount -o remount,bind,ro "$root"
exec chroot "$root" /hearth "$@"
"""

UP = """import fcntl, socket, struct
with socket.socket() as any:
    name = struct.pack("16sh14x", b"lo", 0)
    flags = struct.unpack("16sh14x", fcntl.ioctl(any, 0x8913, name))[1]
    fcntl.ioctl(any, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))"""


def make_root(root: Path, executable: Path) -> None:
    """A root directory with the executable at /hearth, and nothing else that it could use but a C library."""
    for folder in ("proc", "dev", "home", "lib64", LIBRARY_FOLDER.relative_to("/")):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in LIBRARIES:
        shutil.copy(LIBRARY_FOLDER / name, root / LIBRARY_FOLDER.relative_to("/") / name)
    shutil.copy(LOADER, root / LOADER.relative_to("/"))
    try:
        os.link(executable, root / "hearth")
    except OSError:  # another disk
        shutil.copy(executable, root / "hearth")


def rehearse(executable: Path, words: list[str]) -> int:
    """The status of `hearth WORDS` in that root. Raises SetupError without namespaces."""
    if subprocess.run(["unshare", "-rmnpf", "true"], capture_output=True).returncode:
        raise SetupError(
            Failure(
                "This kernel gives no namespaces to start in.",
                "Rehearse as root, or allow unprivileged user namespaces.",
            )
        )
    with tempfile.TemporaryDirectory(prefix=".rehearsal-", dir=executable.parent) as directory:
        make_root(Path(directory), executable)
        script = INSIDE.format(devices=" ".join(DEVICES), loopback=f"{sys.executable} -c '{UP}'")
        command = ["unshare", "-rmnpf", "/bin/sh", "-c", script, "sh", directory, *words]
        environment = {"HOME": "/home", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        return subprocess.run(command, env=environment, timeout=MOST_SECONDS).returncode


def main() -> int:
    """Exit status: the self-test's, 2 for wrong use."""
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        sys.stderr.write("usage: python build/rehearse.py EXECUTABLE [WORDS]\n")
        return 2
    try:
        return rehearse(Path(sys.argv[1]).resolve(), sys.argv[2:] or ["selftest"])
    except SetupError as error:
        sys.stderr.write(report(error, ""))
        return 1


if __name__ == "__main__":
    sys.exit(main())
