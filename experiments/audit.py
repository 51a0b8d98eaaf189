"""Does a split leak? Patients or slides on both sides of it, and images that are the same or nearly.

histojax audit --data=DIR --models=DIR --groups=patients.xlsx           the split of trained models
histojax audit --data=DIR --split=folds.csv --groups=patients.csv       any split
histojax audit --data=DIR --groups=patients.csv --fold_maker=grouped    the split that training would make

--groups is a CSV or spreadsheet with a column of image names and one of patients or slides, such as BACH's
ICIAR2018_BACH_dataset_micro_patient.xlsx as it comes. For each fold it is told how many test images share a group with
training, and how many the class too; images of unknown group are counted apart.

Near-duplicates are found by their looks in all turns and flips: JPEG, another size, another brightness or a slightly
tighter crop do not hide them. A pair in two folds leaks; a pair of two classes has a wrong label. See for yourself: two
fields of much bare glass may look alike, and a crop of less than 95 % is missed more often than not.

With --out writes audit.json, audit.csv (a row a fold), duplicates.csv and duplicates.html, the pairs side by side.
Time on two cores: 58 images of 896 x 768 take 2 s; all images are read once.
"""

import html
from pathlib import Path

import numpy as np

from experiments import flags
from histojax.datasets import Dataset, folds, leakage
from histojax.datasets.folds import Folds
from histojax.errors import InputError
from histojax.images import reader
from histojax.images.thumbnails import thumbnail
from histojax.inspection import near_duplicates
from histojax.inspection.near_duplicates import SplitPair
from histojax.learners import ensembles
from histojax.utils import files
from histojax.utils.files import require_writable

SHOWN = 200  # Most pairs in duplicates.html.
LISTED = 10  # Most pairs in the printed text.

COLUMNS = (
    "first",
    "second",
    "first_fold",
    "second_fold",
    "first_class",
    "second_class",
    "leaks",
    "label_conflict",
    "same_file",
    "distance",
    "correlation",
    "second_mirrored",
    "second_quarter_turns",
)
STYLE = (
    "body{font:15px sans-serif;margin:2em;max-width:60em}figure{margin:0 0 1.5em;page-break-inside:avoid}"
    "img{margin-right:.5em;vertical-align:top}.bad{color:#a00;font-weight:bold}"
)

flags.define_data()
flags.define_path("split", "A split to audit: CSV image,label,fold[,group].", required=False)
flags.define_path("models", "Folder of models, whose split is audited.", required=False)
flags.define_folds()
flags.define_fold_count()
flags.define_path(
    "out", "Folder to write to; without it everything is printed alone.", required=False
)


def main() -> None:
    out = flags.path("out")
    dataset = flags.dataset()
    split = chosen(dataset)
    if out is not None:
        flags.refuse_inside_data("out")
        require_writable(out)
    audited = leakage.audit(split)
    print("\n".join(leakage.text_lines(audited)), flush=True)
    found = near_duplicates.pairs_in_split(
        near_duplicates.find_pairs(near_duplicates.fingerprint(dataset.paths)), split
    )
    print("\n".join(["", *near_duplicates.summary_lines(found, split, LISTED)]))
    if out is not None:
        write(out, audited, found, split, dataset)
        print(f"\n{out / 'audit.json'}, audit.csv, duplicates.csv, duplicates.html")


def chosen(dataset: Dataset) -> Folds:
    """The split that the flags name, or the one that training would make."""
    models, place, maker = flags.path("models"), flags.path("split"), flags.FLAGS.fold_maker
    if models is not None and place is not None:
        raise InputError("--split and --models both name a split: pass one")
    if models is not None:
        place = models / ensembles.FOLDS
    if place is not None and (maker or flags.FLAGS.paper_folds):
        raise InputError(
            "--fold_maker and --paper_folds make a split, --split and --models name one: pass either"
        )
    if place is not None:
        return folds.match_dataset(folds.load(place, dataset.classes), dataset, place)
    made = flags.paper_split(dataset)
    return made or folds.make(
        dataset, flags.FLAGS.folds, flags.FLAGS.fold_seed, maker, flags.FLAGS.unknown_groups
    )


def write(
    out: Path,
    audited: leakage.LeakageAudit,
    found: tuple[SplitPair, ...],
    split: Folds,
    dataset: Dataset,
) -> None:
    """Writes the four files."""
    numbers = leakage.as_dict(audited) | {"duplicates": near_duplicates.counts(found)}
    files.write_json(out / "audit.json", numbers)
    files.write_csv(out / "audit.csv", *leakage.as_table(audited))
    files.write_csv(out / "duplicates.csv", [row(each, split) for each in found], COLUMNS)
    files.write_text(out / "duplicates.html", page(found, split, dataset))


def row(found: SplitPair, split: Folds) -> tuple:
    """The cells below COLUMNS."""
    pair, both = found.pair, (found.pair.first, found.pair.second)
    return (
        *(split.names[i] for i in both),
        *(int(split.folds[i]) + 1 for i in both),
        *(split.classes[split.labels[i]] for i in both),
        *(int(value) for value in (found.leaks, found.conflict, pair.exact)),
        pair.distance,
        f"{pair.correlation:.3f}",
        *map(int, pair.turn),
    )


def page(found: tuple[SplitPair, ...], split: Folds, dataset: Dataset) -> str:
    """The pairs side by side in one file, the second image of each turned to match the first."""
    shown = [
        f"<figure>{picture(dataset.paths[each.pair.first])}{picture(dataset.paths[each.pair.second], each.pair.turn)}"
        f"<figcaption{' class=bad' if each.leaks or each.conflict else ''}>"
        f"{html.escape(near_duplicates.pair_line(each, split))}</figcaption></figure>"
        for each in found[:SHOWN]
    ]
    told = "".join(
        f"<p>{html.escape(line)}</p>" for line in near_duplicates.summary_lines(found, split, 0)
    )
    more = (
        f"<p>The {len(shown)} surest of {len(found)} pairs; duplicates.csv has all.</p>"
        if found[SHOWN:]
        else ""
    )
    body = f"<h1>Near-duplicate images</h1>{told}{more}{''.join(shown)}"
    head = f'<meta charset="utf-8"><title>Near-duplicate images</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def picture(path: Path, turn: tuple[bool, int] = (False, 0)) -> str:
    """An image, turned, as HTML."""
    planes = near_duplicates.apply_turn(np.moveaxis(reader.read(path), -1, 0), turn)
    uri = thumbnail(np.ascontiguousarray(np.moveaxis(planes, 0, -1)), side=320)
    return f'<img src="{uri}" alt="{html.escape(path.name)}" title="{html.escape(path.name)}">'


if __name__ == "__main__":
    flags.run(main, __doc__)
