"""The answers to single images: the cells of the confusion matrix, and mistakes."""

import dataclasses

import numpy as np

from histojax.evaluation.labelled_predictions import LabelledPredictions
from histojax.evaluation.statistics import Statistics
from histojax.report import images


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to one image: class names, and the scores of both where there are any."""

    image: str
    truth: str
    predicted: str
    score_of_predicted: float | None
    score_of_truth: float | None
    fold: int | None


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of the confusion matrix.

    Attributes:
      row, column: indices of the true class and of the predicted one.
      count: images.
      share: of the images of the true class.
      answers: those to show.
      others: names of the other images.
    """

    row: int
    column: int
    count: int
    share: float
    answers: tuple[Answer, ...]
    others: tuple[str, ...]


def _answer(predictions: LabelledPredictions, i: int) -> Answer:
    """The answer to image i."""
    truth, predicted = predictions.truth[i], predictions.predicted[i]
    scores = predictions.scores
    return Answer(
        image=predictions.names[i],
        truth=predictions.classes[truth],
        predicted=predictions.classes[predicted],
        score_of_predicted=None if scores is None else float(scores[i, predicted]),
        score_of_truth=None if scores is None else float(scores[i, truth]),
        fold=None if predictions.folds is None else int(predictions.folds[i]) + 1,
    )


def cells(statistics: Statistics) -> list[list[Cell]]:
    """The confusion matrix, row by row."""
    predictions, matrix = statistics.predictions, statistics.confusion
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    indices = images.by_cell(predictions)
    most = images.thumbnails_per_cell(len(indices))

    def cell(row: int, column: int) -> Cell:
        in_cell = indices.get((row, column), [])
        return Cell(
            row=row,
            column=column,
            count=int(matrix[row, column]),
            share=float(share[row, column]),
            answers=tuple(_answer(predictions, i) for i in in_cell[:most]),
            others=tuple(predictions.names[i] for i in in_cell[most:]),
        )

    classes = range(len(predictions.classes))
    return [[cell(row, column) for column in classes] for row in classes]


def mistakes(predictions: LabelledPredictions) -> list[Answer]:
    """Wrong answers, the most confident first."""
    return [_answer(predictions, i) for i in images.mistakes(predictions)]
