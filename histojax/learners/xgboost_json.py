"""A check of XGBoost's JSON before XGBoost reads it, which trusts every number in it.

XGBoost indexes arrays by what the JSON says, so that damage ends the process, as LightGBM does; see
`tree_text`. Only what histojax trains is taken: trees by numbers, one for each class in each round.
"""

import re
from typing import Any

import numpy as np

_BASE_SCORE = re.compile(r"\[?[-+.\dE]+(?:,[-+.\dE]+)*\]?")
_ROOT = 2**31 - 1  # The parent of a tree's root.
_LARGEST = 2**24  # Channels, and nodes of a tree.
_EMPTY = ("categories", "categories_nodes", "categories_segments", "categories_sizes")
_FLOATS = ("base_weights", "loss_changes", "split_conditions", "sum_hessian")
_INTEGERS = ("left_children", "right_children", "parents", "split_indices", "split_type")


def check(model: dict[str, Any], objective: str) -> None:
    """Raises ValueError, KeyError, TypeError or OverflowError unless XGBoost can read it safely.

    Args:
      model: the JSON.
      objective: that the model must have.
    """
    learner = model["learner"]
    shared, booster = learner["learner_model_param"], learner["gradient_booster"]
    channels, classes = int(shared["num_feature"]), int(shared["num_class"])
    of_objective = learner["objective"]["softmax_multiclass_param"]["num_class"]
    if not (0 < channels < _LARGEST and 1 < classes < _LARGEST and int(of_objective) == classes):
        raise ValueError("its numbers of channels or classes are none")
    if (learner["objective"]["name"], booster["name"]) != (objective, "gbtree"):
        raise ValueError("it is no model of trees for classes")
    if not _BASE_SCORE.fullmatch(shared["base_score"]) or int(shared.get("num_target", 1)) != 1:
        raise ValueError("it starts from nothing")
    if (
        learner["feature_names"]
        or learner["feature_types"]
        or any(booster["model"].get("cats", {}).values())
    ):
        raise ValueError("its channels are named, or no numbers")
    _check_trees(booster["model"], channels, classes)


def _check_trees(forest: dict[str, Any], channels: int, classes: int) -> None:
    trees, count = forest["trees"], int(forest["gbtree_model_param"]["num_trees"])
    ends = _integers(forest["iteration_indptr"])
    rounds = count // classes
    if count != len(trees) or count != rounds * classes or not rounds:
        raise ValueError("a round of it has no tree for some class")
    if int(forest["gbtree_model_param"]["num_parallel_tree"]) != 1:
        raise ValueError("it has several trees a round and class")
    if not np.array_equal(ends, np.arange(rounds + 1) * classes):
        raise ValueError("its rounds are not where they should be")
    if not np.array_equal(_integers(forest["tree_info"]), np.arange(count) % classes):
        raise ValueError("its trees are not in the order of the classes")
    for number, tree in enumerate(trees):
        if tree["id"] != number or not _is_tree(tree, channels):
            raise ValueError(f"its tree {number} is none")


def _is_tree(tree: dict[str, Any], channels: int) -> bool:
    """Whether every node but the root hangs on one earlier node, and has a channel and numbers."""
    of_tree = {name: int(value) for name, value in tree["tree_param"].items()}
    nodes = of_tree.pop("num_nodes")
    if of_tree != {"num_deleted": 0, "num_feature": channels, "size_leaf_vector": 1}:
        return False
    if not 0 < nodes < _LARGEST or any(tree[name] for name in _EMPTY):
        return False
    arrays = {name: _integers(tree[name]) for name in _INTEGERS}
    floats = [np.array(tree[name], float) for name in _FLOATS]
    if any(each.shape != (nodes,) for each in (*arrays.values(), *floats)):
        return False
    if len(tree["default_left"]) != nodes or not set(tree["default_left"]) <= {0, 1}:
        return False
    if not all(np.isfinite(each).all() for each in floats) or arrays["split_type"].any():
        return False
    left, right = arrays["left_children"], arrays["right_children"]
    inner, parents = np.flatnonzero(left >= 0), np.full(nodes, -1)
    hung = np.concatenate([left[inner], right[inner]])
    if not np.array_equal(np.sort(hung), np.arange(1, nodes)):
        return False
    parents[hung], parents[0] = np.tile(inner, 2), _ROOT
    leaves = left < 0
    return bool(
        (parents[1:] < np.arange(1, nodes)).all()
        and np.array_equal(parents, arrays["parents"])
        and ((left[leaves] == -1) & (right[leaves] == -1)).all()
        and ((arrays["split_indices"] >= 0) & (arrays["split_indices"] < channels)).all()
    )


def _integers(values: list[int]) -> np.ndarray:
    """A list of whole numbers as int64; TypeError where it is none."""
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise TypeError("no list of whole numbers")
    return np.array(values, np.int64)
