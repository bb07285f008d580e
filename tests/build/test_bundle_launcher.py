"""The launcher, compiled and run: a script stands for the frozen program."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import native_launcher
import program_archive
import pytest
from program_archive import BLOCK_BYTES, list_entries, write_archive
from setup_failure import SetupError

from models.bundle import Program, write_bundle
from models.embedded import FOOTER_BYTES, open_embedded
from models.library import Library
from models.region import Extent
from models.store import Store

SCRIPT = '#!/bin/sh\necho "$HEARTH_BUNDLE|$*|$(cat "$(dirname "$0")/_internal/greeting")"\n'
GREETING = "good day"
LARGE = os.urandom(1 << 16) * 40  # more than two blocks, so that a file begins in one and ends in another


@dataclass
class Machine:
    """A launcher with its program, and the directories it may use."""

    executable: Path
    home: Path
    temporary: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.defpath, "HEARTH_HOME": str(self.home), "TMPDIR": str(self.temporary)}
        return subprocess.run(
            [self.executable, *words],
            env=environment | self.environment,
            capture_output=True,
            text=True,
            timeout=30,
        )

    def greets(self, *words: str) -> bool:
        result = self.run(*words)
        return result.stdout == f"{self.executable}|{' '.join(words)}|{GREETING}\n" and not result.returncode

    @property
    def place(self) -> Path:
        return self.home / "cache" / "program"

    def programs(self) -> list[Path]:
        return sorted(self.place.glob("program-*"))


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("launcher") / "launcher"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_launcher, "LAUNCHER", target)
        try:
            return native_launcher.compile_launcher()
        except SetupError as error:
            pytest.skip(f"the launcher cannot be compiled here: {error.failure.cause}")


@pytest.fixture
def make(tmp_path: Path, launcher: Path) -> Callable[..., Machine]:
    """Makes an executable; a different `greeting` is a different build."""

    def machine(name: str = "hearth", greeting: str = GREETING, glibc_minor: int = 17) -> Machine:
        folder = tmp_path / f"{name}-folder"
        (folder / "_internal" / "deep" / "er").mkdir(parents=True)
        (folder / "hearth").write_text(SCRIPT)
        (folder / "hearth").chmod(0o755)
        (folder / "_internal" / "greeting").write_text(greeting)
        (folder / "_internal" / "empty").touch()
        (folder / "_internal" / "deep" / "er" / "large").write_bytes(LARGE)
        (folder / "_internal" / "link").symlink_to("deep/er/large")
        archive = tmp_path / f"{name}.archive"
        index = write_archive(folder, archive, glibc_minor)
        program = Program(
            Extent(launcher, 0, launcher.stat().st_size),
            Extent(archive, 0, archive.stat().st_size),
            index,
            "1",
        )
        write_bundle(tmp_path / name, program, "tiny", [], Library(Store(tmp_path / "store")))
        (tmp_path / "temporary").mkdir(exist_ok=True)
        return Machine(tmp_path / name, tmp_path / "home", tmp_path / "temporary")

    return machine


@pytest.fixture
def machine(make: Callable[..., Machine]) -> Machine:
    return make()


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_the_first_start_unpacks_and_runs_with_the_words_given(machine: Machine) -> None:
    assert machine.greets("serve", "--port", "0")
    (program,) = machine.programs()
    assert (program / "_internal" / "deep" / "er" / "large").read_bytes() == LARGE
    assert (program / "_internal" / "link").readlink() == Path("deep/er/large")
    assert (program / "_internal" / "empty").read_bytes() == b""
    assert program.stat().st_mode & 0o777 == 0o700
    assert (program / "hearth").stat().st_mode & 0o777 == 0o700
    assert (program / "_internal" / "greeting").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in machine.place.iterdir()) == ["lock", program.name]


def test_a_later_start_writes_nothing(machine: Machine) -> None:
    assert machine.greets()
    before = {path: path.lstat().st_mtime_ns for path in machine.place.rglob("*")}
    assert machine.greets()
    assert {path: path.lstat().st_mtime_ns for path in machine.place.rglob("*")} == before


@pytest.mark.parametrize("harm", ["remove", "shorten", "replace by a link"])
def test_a_file_that_is_gone_or_short_is_unpacked_again(machine: Machine, harm: str) -> None:
    assert machine.greets()
    victim = machine.programs()[0] / "_internal" / "deep" / "er" / "large"
    match harm:
        case "remove":
            victim.unlink()
        case "shorten":
            os.truncate(victim, 7)
        case _:
            victim.rename(victim.with_name("elsewhere"))
            victim.symlink_to("elsewhere")
    assert machine.greets()
    assert victim.read_bytes() == LARGE
    assert not victim.is_symlink()
    assert len(list(machine.place.iterdir())) == 2


def test_the_first_start_after_a_boot_compares_every_byte(machine: Machine) -> None:
    assert machine.greets()
    program = machine.programs()[0]
    flip(program / "_internal" / "deep" / "er" / "large", BLOCK_BYTES + 5)
    (program / ".boot").write_text("an earlier one\n")
    assert machine.greets()
    assert (program / "_internal" / "deep" / "er" / "large").read_bytes() == LARGE
    (program / ".boot").write_text("an earlier one\n")
    inode = program.stat().st_ino
    assert machine.greets()
    assert program.stat().st_ino == inode, "an unchanged program is kept"
    assert (program / ".boot").read_text() == Path("/proc/sys/kernel/random/boot_id").read_text()


def test_every_damage_to_the_program_stops_the_first_start(machine: Machine) -> None:
    program = open_embedded(machine.executable).program()
    for at in range(program.start, program.start + program.length, program.length // 40):
        flip(machine.executable, at)
        result = machine.run()
        assert result.returncode == 1
        assert "the file is damaged" in result.stderr
        assert not machine.programs()
        flip(machine.executable, at)
    assert machine.greets()


@pytest.mark.parametrize("missing", [1, FOOTER_BYTES, FOOTER_BYTES + 1, 100_000])
def test_a_file_cut_short_is_refused(machine: Machine, missing: int) -> None:
    os.truncate(machine.executable, machine.executable.stat().st_size - missing)
    result = machine.run()
    assert result.returncode == 1
    assert "the file is damaged: its end is missing" in result.stderr


def test_another_place_is_taken_when_the_first_cannot_be_used(machine: Machine) -> None:
    machine.home.write_text("a file where a directory should be")
    result = machine.run()
    assert result.stdout.endswith(f"|{GREETING}\n")
    fallback = machine.temporary / f"hearth-{os.geteuid()}" / "program"
    assert (
        f"{machine.place} cannot be made: Not a directory; unpacked into {fallback} instead" in result.stderr
    )
    assert not machine.run().stderr, "said once, when it happens"


def test_a_place_that_others_can_change_is_not_used(machine: Machine) -> None:
    machine.place.mkdir(parents=True)
    machine.place.chmod(0o777)
    assert "can be changed by others; unpacked into" in machine.run().stderr
    machine.place.chmod(0o700)
    machine.place.parent.chmod(0o777)
    shutil.rmtree(machine.temporary / f"hearth-{os.geteuid()}")
    assert "can be changed by others; unpacked into" in machine.run().stderr


def test_a_new_build_removes_the_old_one_unless_it_runs(make: Callable[..., Machine]) -> None:
    old, new = make("old", "good morning"), make("new")
    assert old.run().stdout.endswith("good morning\n")
    (earlier,) = old.programs()
    with (earlier / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # as a running program holds it
        assert new.greets()
        assert len(new.programs()) == 2
    (old.place / "fresh-1").mkdir()  # what a killed first start left
    for program in new.programs():
        if program != earlier:
            shutil.rmtree(program)
    assert new.greets()
    assert earlier not in new.programs()
    assert len(list(new.place.iterdir())) == 2


def test_first_starts_at_the_same_time_all_succeed(machine: Machine) -> None:
    environment = {"PATH": os.defpath, "HEARTH_HOME": str(machine.home)}
    starts = [
        subprocess.Popen([machine.executable], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    assert {start.communicate(timeout=30)[0] for start in starts} == {f"{machine.executable}||{GREETING}\n"}
    assert len(machine.programs()) == 1


def test_a_machine_with_an_older_libc_is_told_so(make: Callable[..., Machine]) -> None:
    machine = make("future", glibc_minor=250)
    result = machine.run()
    assert result.returncode == 1
    assert "2.250 or newer is needed" in result.stderr
    assert not machine.programs()


def test_variables_of_another_frozen_program_are_dropped(machine: Machine) -> None:
    assert machine.greets()
    (machine.programs()[0] / "hearth").write_text("#!/bin/sh\nenv\n".ljust(len(SCRIPT)))
    machine.environment["_PYI_APPLICATION_HOME_DIR"] = "/elsewhere"
    result = machine.run()
    assert "HEARTH_HOME=" in result.stdout
    assert "_PYI_" not in result.stdout


def test_the_archive_of_a_directory_is_always_the_same(tmp_path: Path) -> None:
    digests = []
    for name, order in (("a", ["x", "y/z", "b"]), ("b", ["b", "y/z", "x"])):
        for path in order:
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(path)
        write_archive(tmp_path / name, tmp_path / f"{name}.archive", 36)
        digests.append(hashlib.sha256((tmp_path / f"{name}.archive").read_bytes()).hexdigest())
    assert digests[0] == digests[1]
    assert [entry.path for entry in list_entries(tmp_path / "a")] == ["b", "x", "y/z"]


def test_what_is_no_file_is_not_packed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is neither a file"):
        program_archive.list_entries(tmp_path)
