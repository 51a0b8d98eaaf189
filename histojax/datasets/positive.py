"""Which classes are positive: BACH's carcinomas, those named, or those whose names read as disease.

A name is read word by word, in English, German, French, Spanish, Italian, Portuguese and Dutch, by
the tables below. A name that reads both ways (`normal next to tumour`) or neither way (`1`,
`grade 2`) is not guessed at.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Sequence

from histojax.config import BACH_CARCINOMA, BACH_CLASSES
from histojax.errors import InputError

NONE = "none"  # What is named to have no positive class.

# Stems of words, without accents and in lower case. A word that ends in one (Mammakarzinom,
# adenocarcinoma) or continues it (malignancy) reads as the stem does.
_DISEASE = (
    *("malign", "cancer", "cancr", "carcinom", "sarcom", "melanom", "lymphom", "metasta"),
    *("bosartig", "boesartig", "krebs", "karzinom", "sarkom", "linfom", "kanker", "kwaadaardig"),
)
# The same, of lesions that may also be benign: `benign tumour` is not positive.
_LESION = ("tumor", "tumour", "tumeur", "gezwel", "neoplas", "lesion", "lasion", "disease")
# Stages of disease: `non-invasive` is one too, so with a negation they are not guessed at.
_STAGE = ("invasiv", "invasif", "insitu", "dcis", "lcis")
# Words that begin with these.
_POSITIVE = ("positiv", "positif", "positief", "abnormal", "pathologic", "krank", "unhealthy")
_BENIGN = ("benign", "benin", "gutartig", "goedaardig")
_HEALTHY = ("normal", "healthy", "gesund", "gezond", "control", "kontroll", "stroma", "background")
_NEGATIVE = ("negati",)
# Whole words.
_HEALTHY_WORDS = ("norm", "sain", "saine", "sano", "sana", "saudavel", "neg")
_ABSENT = ("free", "frei", "vrij", "absent", "neg")  # After a word of disease, like _NEGATIVE.
_NEGATIONS = (
    *("no", "non", "not", "without", "nicht", "kein", "keine", "ohne", "pas", "sans", "sin"),
    *("sem", "senza", "nao", "niet", "geen", "zonder"),
)
_FILLERS = ("a", "any", "de", "evidence", "of", "sign", "signs")  # Between a negation and its word.
# What lies beside disease, or before it, is neither.
_BESIDE = re.compile(
    rf"(peri|para|juxta|pre|pra|extra|post|un)({'|'.join(_DISEASE + _LESION)})|adjacent|surround|"
    r"margin|outside|distant|distal|lymphocyt|(away|far|near|post)$"
)


@dataclasses.dataclass(frozen=True)
class PositiveClasses:
    """The classes that count as positive.

    Attributes:
      indices: of the classes, in their order; empty for none.
      names: of these.
      reason: a sentence for people, without a full stop: which they are, and why.
    """

    indices: tuple[int, ...]
    names: tuple[str, ...]
    reason: str


def choose(classes: Sequence[str], names: Sequence[str] = ()) -> PositiveClasses:
    """Chooses the classes that count as positive, or asks for them.

    Args:
      classes: all K names.
      names: those that are positive; `none` for none; empty to have them chosen. BACH's carcinomas
        are positive for BACH; otherwise, where every name reads as disease or as none, and both
        occur, those that read as disease.

    Raises:
      InputError: a named class does not exist, all are named, or none is named where two classes
        do not tell which is positive.
    """
    if names:
        return _named(classes, tuple(names))
    if set(BACH_CARCINOMA) < set(classes) <= set(BACH_CLASSES):
        return _chosen(classes, set(BACH_CARCINOMA), "the carcinomas of BACH")
    reads = {name: reads_as_disease(name) for name in classes}
    if set(reads.values()) == {True, False}:
        disease = {name for name in classes if reads[name]}
        others = ", ".join(name for name in classes if name not in disease)
        verb = "reads" if len(disease) == 1 else "read"
        return _chosen(classes, disease, f"{verb} as disease, against {others}")
    if len(classes) == 2:
        first, second = classes
        raise InputError(
            f"which of the classes {first} and {second} is the positive one (disease), their names "
            f"do not tell: pass --positive_classes={first}, --positive_classes={second}, or "
            f"--positive_classes={NONE}"
        )
    return PositiveClasses(
        (),
        (),
        f"no positive class: the names {', '.join(classes)} do not all tell whether they are "
        "disease; name those that are with --positive_classes to have ROC AUC, sensitivity, "
        "specificity and an operating point",
    )


def stored(classes: Sequence[str], indices: Sequence[int], reason: str = "") -> PositiveClasses:
    """The choice that a file records; older bundles do not say why it was made."""
    names = tuple(classes[i] for i in indices)
    reason = reason or f"positive classes: {', '.join(names) or 'none'} (as the bundle says)"
    return PositiveClasses(tuple(indices), names, reason)


def _named(classes: Sequence[str], names: tuple[str, ...]) -> PositiveClasses:
    """The classes of these names."""
    if names == (NONE,) and NONE not in classes:
        return PositiveClasses((), (), f"no positive class, as --positive_classes={NONE} says")
    if unknown := [name for name in names if name not in classes]:
        raise InputError(
            f"no class {', '.join(unknown)} to count as positive; there are {', '.join(classes)}"
        )
    if set(names) == set(classes):
        raise InputError(
            f"all of {', '.join(classes)} are named as positive; leave at least one out"
        )
    return _chosen(classes, set(names), "named by --positive_classes")


def _chosen(classes: Sequence[str], chosen: set[str], why: str) -> PositiveClasses:
    indices = tuple(i for i, name in enumerate(classes) if name in chosen)
    names = tuple(classes[i] for i in indices)
    noun = "class" if len(names) == 1 else "classes"
    return PositiveClasses(indices, names, f"positive {noun}: {', '.join(names)} ({why})")


def reads_as_disease(name: str) -> bool | None:
    """Whether the name of a class reads as disease (True), as none (False), or is unclear."""
    words = _words(name)
    if any(map(_BESIDE.match, words)):
        return None
    readings, i = [], 0
    while i < len(words):
        following = i + 1
        if words[i] in _NEGATIONS:
            while following < len(words) and words[following] in _FILLERS:
                following += 1
            kind = _kind(words[following]) if following < len(words) else ""
            readings.append(_NEGATED.get(kind, "unclear"))
            following += 1
        elif kind := _kind(words[i]):
            if kind in ("disease", "lesion") and following < len(words):
                after = words[following]
                if _begins(after, _NEGATIVE) or after in _ABSENT:
                    kind, following = "healthy", following + 1
            readings.append(kind)
        i = following
    return _READINGS.get(frozenset(readings))


# A word's kind after a negation; the other kinds are unclear then.
_NEGATED = {"disease": "healthy", "lesion": "healthy", "healthy": "disease", "benign": "disease"}
# What the kinds of a name's words say together; every other combination is unclear.
_READINGS = {
    **{
        frozenset(kinds): True
        for kinds in (
            *(("disease",), ("lesion",), ("stage",)),
            *(("disease", "lesion"), ("disease", "stage"), ("lesion", "stage")),
            ("disease", "lesion", "stage"),
        )
    },
    **{
        frozenset(kinds): False
        for kinds in (("healthy",), ("benign",), ("benign", "lesion"), ("benign", "healthy"))
    },
}


def _kind(word: str) -> str:
    """disease, lesion, stage, benign or healthy; empty for other words."""
    for negation in _NEGATIONS:
        rest = word.removeprefix(negation)
        if rest != word and _begins(rest, _DISEASE + _LESION):  # nontumor
            return "healthy"
    for ending in _ABSENT:
        rest = word.removesuffix(ending)
        if rest != word and any(stem in rest for stem in _DISEASE + _LESION):  # tumorfrei
            return "healthy"
    if any(stem in word for stem in _DISEASE) or _begins(word, _POSITIVE) or word == "pos":
        return "disease"
    if any(stem in word for stem in _LESION):
        return "lesion"
    if _begins(word, _STAGE):
        return "stage"
    if _begins(word, _BENIGN):
        return "benign"
    return "healthy" if _begins(word, _HEALTHY + _NEGATIVE) or word in _HEALTHY_WORDS else ""


def _begins(word: str, stems: Iterable[str]) -> bool:
    return any(word.startswith(stem) for stem in stems)


def _words(name: str) -> list[str]:
    """The words of a name: without accents, in lower case, `InSitu` and `in situ` as one word."""
    plain = unicodedata.normalize("NFKD", name)
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain).lower()
    return re.findall(r"[a-z]+", re.sub(r"\bin[\s_-]*situ\b", "insitu", spaced.replace("_", " ")))
