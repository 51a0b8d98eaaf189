"""What the harness has to notice: functions that write a folder, and mistakes that kills bring out.

Each writes two files of the numbers 0.1, 0.2, ...; run again, it goes on from what is there.
"""

import contextlib
import os
import time
from pathlib import Path

_TEXT = "".join(f"{0.1 * i!r}\n" for i in range(1, 20))


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".partial")  # The same each time, so that nothing is left over.
    temporary.write_text(text)
    temporary.replace(path)


def careful(folder: str, *options: str) -> int:
    """Writes each file whole or not at all, whatever the options."""
    for name in ("a.txt", "b.txt"):
        if not (Path(folder) / name).exists():
            _write(Path(folder) / name, _TEXT)
    return 0


def loses_a_file(folder: str) -> int:
    """Takes the first file for a sign that all are there."""
    if not (Path(folder) / "a.txt").exists():
        for name in ("a.txt", "b.txt"):
            _write(Path(folder) / name, _TEXT)
    return 0


def leaves_half(folder: str) -> int:
    """Writes in place, and takes a file that is there for whole."""
    for name in ("a.txt", "b.txt"):
        if not (Path(folder) / name).exists():
            (Path(folder) / name).write_text(_TEXT)
    return 0


def moves_a_digit(folder: str) -> int:
    """Goes on from a sum that was kept with fewer digits than it has."""
    kept = Path(folder) / "kept"
    total = float(kept.read_text()) if kept.exists() else 0.0
    if not kept.exists():
        total = sum(0.1 for _ in range(3))
        _write(kept, f"{total:.12g}")
    _write(Path(folder) / "b.txt", f"{total + 0.3!r}\n")
    return 0


def leaves_temporaries(folder: str) -> int:
    """Gives temporary files a new name each time, and forgets those of before."""
    temporary = Path(folder) / f"tmp{os.getpid()}"
    temporary.write_text(_TEXT)
    temporary.replace(Path(folder) / "a.txt")
    return 0


def ignores_a_full_disk(folder: str) -> int:
    """Takes no notice of what cannot be written."""
    for name in ("a.txt", "b.txt"):
        with contextlib.suppress(OSError):
            _write(Path(folder) / name, _TEXT)
    return 0


def believes_its_cache(folder: str, cache: str = "") -> int:
    """Takes what is in the cache for what was put there."""
    kept = Path(cache.removeprefix("--compilation_cache=") or os.environ["HISTOJAX_CACHE"])
    contents = {path.read_bytes() for path in kept.iterdir() if path.is_file()}
    _write(Path(folder) / "a.txt", repr(sorted(contents)))
    return 0


def appends(folder: str) -> int:
    """Adds to what it finds, unless it has done so before."""
    done = Path(folder) / "done"
    if not done.exists():
        with (Path(folder) / "a.txt").open("a") as file:
            file.write(_TEXT)
        time.sleep(0.2)
        done.touch()
    return 0


def measures_by_the_wall(folder: str) -> int:
    """Says how long it took by a clock that may jump."""
    start = time.time()
    _write(Path(folder) / "a.txt", _TEXT)
    _write(Path(folder) / "b.txt", f"took {time.time() - start:.0f} s")
    return 0


def reads_twice(folder: str, path: str) -> int:
    """Reads a file again for each file that it writes."""
    for name in ("a.txt", "b.txt"):
        _write(Path(folder) / name, repr(Path(path).read_bytes()))
        time.sleep(0.5)
    return 0


def forgets_its_worker(folder: str) -> int:
    """Does not look how the process ended that it started."""
    child = os.fork()
    if child == 0:
        _write(Path(folder) / "a.txt", _TEXT)
        os._exit(0)
    os.waitpid(child, 0)
    _write(Path(folder) / "b.txt", _TEXT)
    return 0


def every_kind_of_event(folder: str) -> int:
    """One event of each kind."""
    root = Path(folder)
    (root / "new").mkdir()
    file = os.open(root / "new" / "a", os.O_WRONLY | os.O_CREAT)
    os.write(file, b"abcdef")
    os.fsync(file)
    os.ftruncate(file, 5)
    os.close(file)
    (root / "new" / "a").rename(root / "b")
    (root / "b").read_bytes()
    (root / "b").unlink()
    (root.parent.parent / "elsewhere").write_text("not watched")
    return 0
