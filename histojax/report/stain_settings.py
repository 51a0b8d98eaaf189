"""Does stain normalisation help: the page that compares four settings, and its numbers as CSV.

OUT/stain.html       in words, then metrics, differences and robustness
OUT/stain.csv        every number and difference with its intervals
OUT/distances.csv    how far descriptors move
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from histojax.evaluation import several
from histojax.evaluation.bootstrap import DRAWS
from histojax.evaluation.robustness import Distances, Movement
from histojax.evaluation.several import Contrast, Pair, Quantity, Runs
from histojax.extraction.manifests import UNTRAINED
from histojax.report import sections
from histojax.report.sections import Cell, Section, Table
from histojax.utils import files

NONE, NORMALISE, AUGMENT, BOTH = "none", "normalise", "augment", "both"
# What is asked of the four settings: of each half, the pair, its name, and where it is.
_QUESTIONS: dict[str, tuple[tuple[Pair, str, str], ...]] = {
    "normalisation": (
        ((NONE, NORMALISE), "normalisation without augmentation", "without stain augmentation"),
        ((AUGMENT, BOTH), "normalisation with augmentation", "with it"),
    ),
    "stain augmentation": (
        ((NONE, AUGMENT), "augmentation without normalisation", "without normalisation"),
        ((NORMALISE, BOTH), "augmentation with normalisation", "with it"),
    ),
}
NAMES = {pair: name for halves in _QUESTIONS.values() for pair, name, _ in halves}
PAIRS = tuple(NAMES)


@dataclasses.dataclass(frozen=True)
class StainAblation:
    """The four settings of one encoder.

    Attributes:
      weights: a line on the encoder's weights.
      runs: out-of-fold predictions by setting, by learner.
      movements: how answers move when stains are varied, by setting, by learner.
      distances: how far descriptors move, by configuration and whether images are normalised.
    """

    weights: str
    runs: Mapping[str, Runs]
    movements: Mapping[str, Mapping[str, Movement]]
    distances: Mapping[tuple[str, bool], Distances]


@dataclasses.dataclass(frozen=True)
class _Judged:
    """Everything that is shown of an encoder and a learner."""

    encoder: str
    learner: str
    quantities: list[Quantity]
    movements: list[Quantity]

    @property
    def title(self) -> str:
        return f"{self.encoder}, {sections.WITH[self.learner]}"


def write(
    folder: Path,
    ablations: Mapping[str, StainAblation],
    gains: tuple[float, float],
    draws: int = DRAWS,
) -> str:
    """Writes the page and the tables; returns what is said first.

    Args:
      folder: where they go.
      ablations: by encoder.
      gains: between which the stains are varied.
      draws: of the bootstrap.
    """
    judged = [
        _judge(name, learner, ablation, draws)
        for name, ablation in ablations.items()
        for learner in ablation.runs
    ]
    lead = [line for each in judged for line in _answers(each)]
    lead += [_robustness_answer(each, ablations[each.encoder]) for each in judged]
    shown = [_of_metrics(each) for each in judged]
    shown += [_robustness(name, each, judged, gains) for name, each in ablations.items()]
    shown.append(_how_to_read(ablations))
    untrained = [name for name, each in ablations.items() if UNTRAINED in each.weights]
    banner = f"{', '.join(untrained)}: {UNTRAINED}." if untrained else ""
    title = "Does stain normalisation help?"
    sections.write_page(folder / "stain.html", title, lead, shown, banner)
    rows = [
        row
        for each in judged
        for row in sections.csv_rows(
            each.title, [*each.quantities, *each.movements], tuple(each.quantities[0].values), PAIRS
        )
    ]
    files.write_csv(folder / "stain.csv", rows, sections.CSV_HEADER)
    distances = [
        (name, configuration, int(normalised), *dataclasses.astuple(each))
        for name, ablation in ablations.items()
        for (configuration, normalised), each in ablation.distances.items()
    ]
    header = ("encoder", "configuration", "normalised", "stain", "crops", "images")
    files.write_csv(folder / "distances.csv", distances, header)
    return "\n".join([*([banner] if banner else []), *lead]) + "\n"


def _judge(encoder: str, learner: str, ablation: StainAblation, draws: int) -> _Judged:
    runs = ablation.runs[learner]
    some = next(iter(runs.values()))
    groups = some.resampling_groups or len(some.names)
    moved = ablation.movements[learner]
    change = {setting: each.change for setting, each in moved.items()}
    flips = {setting: each.flips for setting, each in moved.items()}
    return _Judged(
        encoder,
        learner,
        several.of_metrics(runs, draws),
        [
            several.of_means("change", "Probability moved", change, groups, draws),
            several.of_means("flips", "Answers changed", flips, groups, draws),
        ],
    )


def _answers(judged: _Judged) -> list[str]:
    """A sentence for each question."""
    main = several.judged_by(judged.quantities)
    contrasts = dict(zip(PAIRS, main.contrasts(PAIRS), strict=True))
    said = []
    for what, halves in _QUESTIONS.items():
        changed = [f"by {_change(main, contrasts[pair])} {where}" for pair, _, where in halves]
        verdicts = [_verdict(main, contrasts[pair]) for pair, *_ in halves]
        if len({*verdicts}) == 1:
            text = f"{' and '.join(changed)}: {verdicts[0]}"
        else:
            parts = zip(changed, verdicts, strict=True)
            text = "; ".join(f"{change}: {verdict}" for change, verdict in parts)
        said.append(f"{judged.title}: {what} changed the {main.noun} {text}.")
    return said


def _change(main: Quantity, contrast: Contrast) -> str:
    value, ends = sections.change(main, contrast.value), sections.changes(main, contrast.together)
    return f"{value} ({ends})"


def _verdict(main: Quantity, contrast: Contrast) -> str:
    if not contrast.is_told:
        return "it cannot be told whether it helps"
    return "it helps" if main.is_better(contrast) else "it harms"


def _robustness_answer(judged: _Judged, ablation: StainAblation) -> str:
    flips = judged.movements[-1]
    by_setting = ", ".join(
        f"{setting} {sections.number(flips, value)}" for setting, value in flips.values.items()
    )
    ratios = [f"{each.stain / each.images:.2f}" for each in ablation.distances.values()]
    of_descriptors = " to ".join(dict.fromkeys((min(ratios), max(ratios))))
    return (
        f"{judged.title}: where the stains of an image are varied, its descriptors move by "
        f"{of_descriptors} of the distance between two images, and answers change, by what the "
        f"models were trained with: {by_setting}."
    )


def _of_metrics(judged: _Judged) -> Section:
    settings, main = tuple(judged.quantities[0].values), several.judged_by(judged.quantities)
    return Section(
        judged.title,
        tables=(
            sections.of_values("Value and 95 % interval", "stain", judged.quantities, settings),
            _differences(judged.quantities),
        ),
        figures=(sections.contrasts_chart(judged.title, main, PAIRS, NAMES),),
    )


def _differences(quantities: Sequence[Quantity]) -> Table:
    caption = "Difference, its 95 % interval, and the one that holds together with the other three"
    return sections.of_differences(caption, quantities, NAMES)


def _robustness(
    name: str, ablation: StainAblation, judged: Sequence[_Judged], gains: tuple[float, float]
) -> Section:
    """How far descriptors and answers of an encoder move."""
    rows = [
        (f"{configuration}, {'normalised' if normalised else 'colours as they are'}", _cells(each))
        for (configuration, normalised), each in ablation.distances.items()
    ]
    header = ("descriptors", "stain / images", "crops / images", "stain / crops")
    tables = [Table("How far descriptors move", header, rows)]
    for each in judged:
        if each.encoder == name:
            settings, of = tuple(each.movements[0].values), sections.WITH[each.learner]
            caption = f"How answers move, of {of} trained in each setting"
            tables.append(sections.of_values(caption, "trained with", each.movements, settings))
            tables.append(_differences(each.movements))
    low, high = gains
    return Section(
        f"{name}: robustness",
        (
            f"The same crops are described in two colours: as training without augmentation sees "
            f"them, and with the amounts of both stains multiplied by {low:g} to {high:g}, the "
            "same for every model. Distances are root mean squares over channels of unit "
            "deviation: between the two colours of a crop (stain), between two augmentations of "
            "an image in one colour (crops), and between two images.",
            "Answers are those to one augmentation, by the models that never saw the image. "
            "Models trained with none and augment see the colours of the image varied; those of "
            "normalise and both see them varied after normalisation. That is how they bear what "
            "normalisation leaves, not how well it removes what differs between slides.",
        ),
        tuple(tables),
    )


def _cells(each: Distances) -> list[Cell]:
    ratios = each.stain / each.images, each.crops / each.images, each.stain / each.crops
    return [Cell(f"{ratio:.2f}") for ratio in ratios]


def _how_to_read(ablations: Mapping[str, StainAblation]) -> Section:
    some = next(iter(next(iter(next(iter(ablations.values())).runs.values())).values()))
    lines = [
        *(f"{name}: {each.weights}." for name, each in ablations.items()),
        "All four settings have the same folds, seeds, number of augmentations and crops, at the "
        "same places: without stain augmentation, the augmentations of an image differ in their "
        "crops alone.",
        sections.resampling_text(some),
        sections.TOGETHER,
        sections.CALIBRATED_LOSSES,
    ]
    return Section("How to read this", tuple(lines))
