"""What import_descriptors and export_descriptors say, and how they end."""

import numpy as np

from tests import made_features, running
from tests.made_features import TILES, job

X = TILES["slide1"]


def test_the_scripts_say_what_was_decided_and_end_with_3_where_a_file_failed(tmp_path):
    files = job(tmp_path / "job", TILES | {"empty": np.zeros((0, 4))})
    np.save(tmp_path / "a.npy", X)
    done = running.run("import_descriptors", files, f"--run={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "uni_v1-20x-256px: TRIDENT, 3 slides, 4 channels, pooled by their mean (features have "
        "signs, which a p-norm would lose)",
        "uni_v1-20x-256px: left out, without tiles: empty",
        f"descriptors of 3 slides: {tmp_path}/run/descriptors",
    ]
    (files / "20x_256px_0px_overlap" / "features_uni_v1" / "broken.h5").write_bytes(b"nothing")
    done = running.run("import_descriptors", f"--features={files}", f"--run={tmp_path}/run")
    assert done.returncode == 3
    assert "3 were there already" in done.stdout
    assert done.stderr.count("broken.h5 cannot be read as features, it is damaged") == 1
    features = f"{files},{tmp_path}/a.npy"
    done = running.run(
        "import_descriptors", f"--features={features}", "--name=a", f"--run={tmp_path}/run"
    )
    assert done.returncode == 1
    assert "is of encoder uni_v1, so --name=a is not needed" in done.stderr
    done = running.run(
        "export_descriptors", f"--run={tmp_path}/run", f"--out={tmp_path}/x", "--format=clam"
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "x" / "uni_v1-20x-256px" / "h5_files").iterdir())) == 3
    done = running.run(
        "export_descriptors", f"--run={tmp_path}/run", f"--out={tmp_path}/x", "--configurations=b"
    )
    assert "has no configuration b: it has uni_v1-20x-256px" in done.stderr


def test_sets_that_differ_in_slides_are_told_and_in_vectors_refused(tmp_path):
    job(tmp_path / "job")
    job(tmp_path / "job", {"slide0": TILES["slide0"]}, encoder="conch_v15")
    done = running.run("import_descriptors", tmp_path / "job", f"--run={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    assert "conch_v15-20x-256px lacks 2 of 3: slide1, slide2" in done.stdout
    for name, count in (("two", 2), ("three", 3)):
        made_features.trident(tmp_path / "rows" / f"features_{name}", "s", X[:count])
    done = running.run(
        "import_descriptors", tmp_path / "rows", f"--run={tmp_path}/new", "--pooling=none"
    )
    assert done.returncode == 1
    assert "numbers of vectors for each slide (three-20x-256px 3, two-20x-256px 2)" in done.stderr
    assert not (tmp_path / "new").exists()
