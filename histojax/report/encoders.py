"""Which encoder: the page that compares several, and its numbers as CSV.

OUT/encoders.html    in words, then metrics, differences, agreement, blends and costs
OUT/encoders.csv     every metric and difference with its intervals
OUT/agreement.csv    how alike the encoders of each pair answer
OUT/costs.csv        what each took
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from histojax.evaluation import several
from histojax.evaluation.bootstrap import DRAWS
from histojax.evaluation.encoder_choice import CHOSEN, Cost, EncoderComparison, Judged, judge
from histojax.evaluation.several import Agreement, Contrast, Quantity, Runs
from histojax.extraction.costs import ExtractionCost
from histojax.extraction.manifests import UNTRAINED
from histojax.report import formats, sections
from histojax.report.sections import Cell, Section, Table
from histojax.utils import files
from histojax.utils.words import quantity as plural

_GB = 1e9


def write(folder: Path, compared: EncoderComparison, draws: int = DRAWS) -> str:
    """Writes the page and the tables; returns what is said first."""
    judged = [judge(learner, runs, draws) for learner, runs in compared.runs.items()]
    lead = [line for each in judged for line in _answers(each, compared.costs)]
    lead += [*_unlike_inputs(compared.inputs), *compared.notes]
    shown = [section for each in judged for section in _of_learner(each)]
    shown += _between_learners(compared.runs, draws)
    shown += [_costs(compared), _how_to_read(compared)]
    untrained = [name for name, line in compared.weights.items() if UNTRAINED in line]
    banner = f"{', '.join(untrained)}: {UNTRAINED}." if untrained else ""
    sections.write_page(folder / "encoders.html", "Which encoder", lead, shown, banner)
    rows = [row for each in judged for row in _csv_rows(each)]
    files.write_csv(folder / "encoders.csv", rows, sections.CSV_HEADER)
    agreement = [
        (each.learner, *_flat(agreement)) for each in judged for agreement in each.agreements
    ]
    files.write_csv(folder / "agreement.csv", agreement, _AGREEMENT)
    rows, header = _cost_rows(compared)
    files.write_csv(folder / "costs.csv", rows, header)
    return "\n".join([*([banner] if banner else []), *lead]) + "\n"


def _unlike_inputs(inputs: Mapping[str, str]) -> list[str]:
    """A sentence where encoders were shown other views or numbers of augmentations."""
    if len({*inputs.values()}) < 2:
        return []
    each = "; ".join(f"{name} had {text}" for name, text in inputs.items())
    return [
        f"The encoders were not shown the same of an image: {each}. A difference between them may "
        "come from that, and not from the encoder."
    ]


def _answers(judged: Judged, costs: Mapping[str, Cost]) -> list[str]:
    """What the numbers of one learner allow one to say."""
    main = judged.main
    best = main.best(judged.encoders)
    pairs = main.contrasts(several.pairs_of(judged.encoders))
    over = {
        (each.first if each.second == best else each.second): (
            each if each.second == best else each.reversed()
        )
        for each in pairs
        if best in (each.first, each.second)
    }
    worse = [_gap(main, name, each) for name, each in over.items() if each.is_told]
    alike = [_gap(main, name, each) for name, each in over.items() if not each.is_told]
    said = [
        f"With {sections.WITH[judged.learner]}, {best} has the best {main.noun} on these images, "
        f"{sections.number(main, main.values[best])} "
        f"({sections.interval(main, main.interval(best))})."
    ]
    if worse:
        said.append(f"It is better than {_listed(worse)}.")
    if alike:
        said.append(f"By {main.noun} no difference can be told from {_listed(alike)}.")
    level = [best, *(name for name, each in over.items() if not each.is_told)]
    seconds = {
        name: costs[name].extraction.seconds_per_image
        for name in level
        if costs[name].extraction is not None
    }
    if alike and len(seconds) > 1:
        cheapest = min(seconds, key=seconds.get)
        said.append(
            f"Of these the fastest is {cheapest}, {seconds[cheapest]:.3g} s an image "
            f"({best}: {seconds[best]:.3g} s)."
            if best in seconds and cheapest != best
            else f"Of these the fastest is {cheapest}, {seconds[cheapest]:.3g} s an image."
        )
    return [" ".join(said), _blend_answer(judged)]


def _gap(main: Quantity, name: str, over: Contrast) -> str:
    gap, ends = sections.change(main, over.value), sections.changes(main, over.together)
    return f"{name} ({gap}, {ends})"


def _blend_answer(judged: Judged) -> str:
    main, blend = judged.main, judged.blends[0]
    contrast = main.contrasts(judged.against_chosen)[0]
    verdict = "no difference can be told"
    if contrast.is_told:
        verdict = f"the blend is {'better' if main.is_better(contrast) else 'worse'}"
    return (
        f"Taking the encoder that the other folds favour gives "
        f"{sections.number(main, main.values[CHOSEN])}, the blend of all "
        f"{sections.number(main, main.values[blend])} "
        f"({sections.change(main, contrast.value)}, {sections.changes(main, contrast.together)}): "
        f"{verdict}."
    )


def _listed(items: Sequence[str]) -> str:
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def _of_learner(judged: Judged) -> list[Section]:
    """The sections of one learner."""
    quantities, main, pairs = judged.quantities, judged.main, several.pairs_of(judged.encoders)
    name = sections.WITH[judged.learner]
    chart = sections.contrasts_chart(judged.learner, main, pairs)
    agreement = Table(
        "How alike they answer",
        ("encoders", "answered alike", "kappa", "both wrong", "only one wrong"),
        [_agreement_row(each) for each in judged.agreements],
    )
    counts = {each: judged.chosen.count(each) for each in judged.encoders}
    favoured = _listed([f"{each} in {count}" for each, count in counts.items() if count])
    return [
        Section(
            name.capitalize(),
            tables=(
                sections.of_values(
                    "Value and 95 % interval", "encoder", quantities, judged.encoders
                ),
                sections.of_differences(
                    "Difference, its 95 % interval, and the one that holds together with those of "
                    "all pairs",
                    quantities,
                    pairs,
                ),
            ),
            figures=(chart,),
        ),
        Section(
            f"Blends of {name}",
            (
                "A blend is the mean of the encoders' probabilities. It is held against what one "
                "gets by taking the encoder with the lowest log-loss on the other folds "
                f"({favoured} of {plural(len(judged.chosen), 'fold')}): the best single "
                "encoder of the tables above was found with the very images that it is judged "
                "on, which flatters it.",
            ),
            (
                sections.of_values(
                    "Value and 95 % interval", "answers", quantities, (CHOSEN, *judged.blends)
                ),
                sections.of_differences(
                    "Difference from the encoder chosen by other folds",
                    quantities,
                    {pair: pair[1] for pair in judged.against_chosen},
                ),
                agreement,
            ),
        ),
    ]


def _agreement_row(each: Agreement) -> tuple[str, list[Cell]]:
    ends = formats.interval("accuracy", each.interval)
    return f"{each.first}, {each.second}", [
        Cell(formats.percent(each.alike), (ends,), True),
        Cell(formats.number("kappa", each.kappa)),
        Cell(plural(each.both_wrong)),
        Cell(f"{each.first_wrong} and {each.second_wrong}"),
    ]


def _between_learners(runs: Mapping[str, Runs], draws: int) -> list[Section]:
    """How each encoder's ensembles of other learners differ from those of the first."""
    first, *others = runs
    pairs, methods = {}, {}
    for learner in others:
        for name in runs[learner]:
            if name in runs[first]:
                pair = f"{name}, {first}", f"{name}, {learner}"
                methods |= {pair[0]: runs[first][name], pair[1]: runs[learner][name]}
                pairs[pair] = f"{name}: {learner} − {first}"
    if not pairs:
        return []
    caption = "Difference of two learners on the same descriptors"
    table = sections.of_differences(caption, several.of_metrics(methods, draws), pairs)
    title = f"{_listed([sections.WITH[learner] for learner in runs]).capitalize()}"
    return [Section(title, tables=(table,))]


def _costs(compared: EncoderComparison) -> Section:
    learners = tuple(compared.runs)
    header = (
        *("encoder", "channels", "parameters, GB", "s an image", "crops/s", "extraction, s"),
        *(f"training {sections.WITH[learner]}, s" for learner in learners),
    )
    rows = [(name, _cost_cells(cost, learners)) for name, cost in compared.costs.items()]
    known = [cost.extraction for cost in compared.costs.values() if cost.extraction]
    devices = " and ".join(sorted({each.device for each in known}))
    text = (
        f"Measured in this run ({devices}). Seconds an image and crops/s begin with the second "
        "image, since programs are compiled before the first is finished; extraction in all "
        "contains that."
        if known
        else "The descriptors were there before, so that their cost is not known."
    )
    return Section("Cost", (text,), (Table("What each encoder costs", header, rows),))


def _cost_cells(cost: Cost, learners: Sequence[str]) -> list[Cell]:
    extraction = cost.extraction
    cells = ["–" if cost.width is None else f"{cost.width:,}"]
    cells += (
        ["–"] * 4
        if extraction is None
        else [
            f"{extraction.parameter_bytes / _GB:.3g}",
            f"{extraction.seconds_per_image:.3g}",
            f"{extraction.crops_per_second:.3g}",
            f"{extraction.seconds:.0f}",
        ]
    )
    training = [cost.training.get(learner) for learner in learners]
    cells += ["–" if seconds is None else f"{seconds:.1f}" for seconds in training]
    return list(map(Cell, cells))


def _how_to_read(compared: EncoderComparison) -> Section:
    some = next(iter(next(iter(compared.runs.values())).values()))
    lines = [
        *(f"{name}: {line}." for name, line in compared.weights.items()),
        sections.resampling_text(some),
        sections.TOGETHER,
        sections.CALIBRATED_LOSSES,
    ]
    return Section("How to read this", tuple(lines))


def _cost_rows(compared: EncoderComparison) -> tuple[list[list], tuple[str, ...]]:
    """The rows and the header of costs.csv; empty where something is not known."""
    fields = [field.name for field in dataclasses.fields(ExtractionCost)]
    learners = tuple(compared.runs)
    rows = []
    for name, cost in compared.costs.items():
        spent = dataclasses.astuple(cost.extraction) if cost.extraction else [""] * len(fields)
        training = [cost.training.get(learner) for learner in learners]
        cells = [name, cost.width, *spent, *training]
        rows.append(["" if cell is None else cell for cell in cells])
    header = ("encoder", "channels", *fields, *(f"training_seconds_{each}" for each in learners))
    return rows, header


_AGREEMENT = (
    *("part", "first", "second", "alike", "low", "high", "kappa"),
    *("both_wrong", "first_wrong", "second_wrong"),
)


def _flat(each: Agreement) -> tuple:
    ends = each.interval
    return (
        *(each.first, each.second, each.alike, ends.low, ends.high, each.kappa),
        *(each.both_wrong, each.first_wrong, each.second_wrong),
    )


def _csv_rows(judged: Judged) -> list[tuple]:
    pairs = several.pairs_of(judged.encoders)
    of_blends = f"{judged.learner}, blends"
    return [
        *sections.csv_rows(judged.learner, judged.quantities, judged.encoders, pairs),
        *sections.csv_rows(
            of_blends, judged.quantities, (CHOSEN, *judged.blends), judged.against_chosen
        ),
    ]
