"""Compiled programs on disk: used again, never in the way, of one user, of bounded size."""

import os
import re
import zlib
from concurrent import futures
from pathlib import Path

import jax
import pytest
from etils import epath

from histojax.errors import InputError
from histojax.extraction import compiled
from tests.running import python, run

# What a script does, and the bits of what its program computes.
CODE = """
import jax, jax.numpy as jnp, numpy as np
from histojax.extraction import compiled
compiled.keep_by_default()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
hits = []
jax.monitoring.register_event_listener(lambda name, **rest: hits.append("cache_hits" in name))
x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 24, 24, 3)), jnp.float32)
kernel = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 3, 8)), jnp.float32)
layer = jax.jit(lambda x: jax.lax.conv_general_dilated(
    x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))
print(sum(hits), np.asarray(layer(x)).tobytes().hex()[:4000], sum(hits))
"""


def start(cache: Path) -> tuple[str, int, str]:
    """The bits, how many programs were read back, and what was said."""
    environment = os.environ | {"HISTOJAX_CACHE": str(cache)}
    del environment["JAX_COMPILATION_CACHE_DIR"]
    done = python("-c", CODE, environment=environment)
    assert done.returncode == 0, done.stderr
    _, bits, hits = done.stdout.split()
    return bits, int(hits), done.stderr


@pytest.fixture
def settings():
    """JAX's settings are those of the other tests again."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_are_read_back_bit_for_bit_and_a_broken_one_is_compiled_again(tmp_path):
    first, hits, said = start(tmp_path)
    assert not said
    folder = tmp_path / f"compiled-{os.getuid()}"
    kept = sorted(folder.glob("jit*-cache"))
    assert kept
    assert folder.stat().st_mode & 0o777 == 0o700
    again, more_hits, said = start(tmp_path)
    assert (again, said) == (first, "")
    assert more_hits > hits
    for path in kept:
        path.write_bytes(path.read_bytes()[:100])
    after, fewer_hits, said = start(tmp_path)
    assert (after, said) == (first, "")
    assert fewer_hits < more_hits
    assert start(tmp_path) == (first, more_hits, "")  # It was written again.
    whole = kept[0].read_bytes()
    kept[0].write_bytes(whole[:100] + bytes(100) + whole[200:])
    os.utime(kept[0], (0, 0))  # Damaged since the last look for what is not whole.
    after, _, said = start(tmp_path)
    assert after == first
    assert "Error reading persistent compilation cache entry" in said
    compiled.shrink(folder, 0)
    assert not [*folder.glob("*-cache")], "JAX names programs otherwise than those that are deleted"


@pytest.mark.slow
def test_two_processes_may_start_at_once(tmp_path):
    with futures.ThreadPoolExecutor(2) as pool:
        one, other = pool.map(start, [tmp_path, tmp_path])
    assert one[0] == other[0] == start(tmp_path)[0]


def test_a_folder_that_cannot_be_used_is_a_notice(tmp_path, settings, notices):
    folder = tmp_path / f"compiled-{os.getuid()}"
    folder.touch()
    compiled.keep_by_default(tmp_path)
    assert jax.config.jax_compilation_cache_dir is None
    assert re.search(r"not kept for later runs \(.*compiled-\d+: File exists\)", notices[-1])
    folder.unlink()
    folder.mkdir()
    folder.chmod(0o707)
    compiled.keep_by_default(tmp_path)
    assert jax.config.jax_compilation_cache_dir is None
    assert "others may write to" in notices[-1]
    folder.chmod(0o770)
    compiled.keep_by_default(tmp_path)
    assert "others may write to" in notices[-1]
    folder.chmod(0o755)
    compiled.keep_by_default(tmp_path)
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert len(notices) == 3


def test_a_folder_of_somebody_else_is_not_used(tmp_path, settings, notices, monkeypatch):
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    compiled.keep_by_default(tmp_path)  # Made here, it is the real user's.
    assert jax.config.jax_compilation_cache_dir is None
    assert f"others may write to {tmp_path / f'compiled-{other}'}" in notices[-1]


def test_a_cache_in_a_bucket_keeps_no_programs_by_default(settings, notices):
    compiled.keep_by_default(epath.Path("gs://bucket/cache"))
    assert jax.config.jax_compilation_cache_dir is None
    assert not notices


def test_a_folder_asked_for_must_be_writable_and_the_environments_comes_before_the_default(
    tmp_path, settings, monkeypatch
):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written to"):
        compiled.keep(tmp_path / "file")
    compiled.keep(tmp_path / "own")
    assert jax.config.jax_persistent_cache_min_compile_time_secs < 1
    program = tmp_path / "own" / "jit_layer-cache"
    program.write_bytes(zlib.compress(b"program"))
    compiled.keep(tmp_path / "own")
    assert program.exists()
    monkeypatch.setattr(compiled, "_MOST_BYTES", -1)
    compiled.keep(tmp_path / "own")
    assert not program.exists()
    compiled.keep_by_default(tmp_path)
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    compiled.keep_none()
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.parametrize("value", ["", "none"])
def test_the_flag_keeps_none_where_it_says_none_or_nothing(value, paths, tmp_path, settings):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    folders = f"--images={paths[0].parent}", f"--descriptors={tmp_path}"
    refused = run("extract", *folders, f"--compilation_cache={value}", "--xla_preset=nhwc")
    assert "has flags of XLA for GPUs" in refused.stderr
    assert jax.config.jax_compilation_cache_dir is None


def test_programs_that_were_used_last_stay_where_there_is_too_much_and_other_files_all_do(tmp_path):
    (tmp_path / "autotuning").mkdir()
    others = [tmp_path / name for name in ("autotuning/jit_d-cache", "weights.h5", "notes-cache")]
    programs = [tmp_path / f"jit_{name}-cache" for name in "cba"]
    for age, path in enumerate((*programs, *others)):
        path.write_bytes(bytes(100))
        os.utime(path, (1000 - age, 0) if age % 2 else (0, 1000 - age))  # Read, or written.
    for most, left in ((300, 3), (250, 2), (120, 1)):
        compiled.shrink(tmp_path, most)
        assert [path.exists() for path in programs] == [i < left for i in range(3)]
    assert all(path.exists() for path in others)
    (tmp_path / "jit_folder-cache").mkdir()
    compiled.shrink(tmp_path, 0)  # What cannot be deleted is no error.
    assert (tmp_path / "jit_folder-cache").exists()
