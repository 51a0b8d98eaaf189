"""How long a search for copies among many images takes, and how many pairs are wrong.

python -m experiments.measuring.many_copies ../shared/data --images=5000
python -m experiments.measuring.many_copies ../shared/data --images=1879 --tiles=679 --turned

Tiles of 224 px of all fields of the UCSB set, and copies of every kind in turn until there are so
many images, are searched at once. With --turned, copies are mirrored or not and turned by up to 25
degrees alone, corners by reflection, white or black.
"""

import argparse
import operator
import resource
import time
from pathlib import Path

import numpy as np

from experiments.measuring.copies import CHANGES, Change, fields, print_wrong, turned
from histojax.inspection import near_duplicates

_DEGREES = 25


def _turned_a_little(fill: str) -> Change:
    def change(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        axis = rng.integers(3)  # To mirror along; neither for the last.
        rgb = np.ascontiguousarray(np.flip(rgb, axis)) if axis < 2 else rgb
        return turned(rgb, rng.uniform(-_DEGREES, _DEGREES), 1, fill)

    return change


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=600, help="tiles and copies")
    parser.add_argument("--tiles", type=int, help="of these images; default: a seventh")
    parser.add_argument("--turned", action="store_true", help="copies are turned a little alone")
    arguments = parser.parse_args()
    tiles, groups = map(operator.add, *(fields(arguments.data, half, 224) for half in (0, 1)))
    number = min(len(tiles), arguments.tiles or arguments.images // 7)
    places = np.linspace(0, len(tiles) - 1, number).astype(int)
    tiles, groups = [tiles[i] for i in places], [groups[i] for i in places]
    little = [_turned_a_little(fill) for fill in ("reflected", "white", "black")]
    changes = little if arguments.turned else [*CHANGES.values()]
    jobs = [(i, k) for k in range(-1, len(changes)) for i in range(number)][: arguments.images]
    marks, seconds, begun = [], 0.0, time.time()
    for i, k in jobs:
        rgb = tiles[i] if k < 0 else changes[k](tiles[i], np.random.default_rng([i, k]))
        started = time.process_time()
        marks.append(near_duplicates.fingerprint(rgb, f"{i} {k}"))
        seconds += time.process_time() - started
    made, started = time.time(), time.process_time()
    pairs = near_duplicates.find_pairs(marks)
    searched, ended = time.process_time() - started, time.time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(jobs)} images of {number} tiles: fingerprints {seconds:.0f} s of a core "
        f"({made - begun:.0f} s went by, in which copies were made, too), search {searched:.0f} s "
        f"({ended - made:.0f} s went by); {peak:.0f} MiB at most"
    )
    found = {(pair.first, pair.second) for pair in pairs}
    copies = range(number, len(jobs))
    print(f"{sum((jobs[i][0], i) in found for i in copies)} of {len(copies)} copies found")
    print_wrong(pairs, np.array([i for i, _ in jobs]), groups)


if __name__ == "__main__":
    main()
