"""A check of LightGBM's model text before LightGBM reads it, which trusts every number in it.

LightGBM indexes arrays by what the text says, so that damage ends the process, or it walks through
a tree for ever. Here a text is taken only if each tree is one: every node and leaf hangs on one
earlier node, and arrays have as many values as there are nodes.

A text is a header, trees of the sizes that the header lists, parameters, and one line of pandas's:

tree / key=value ... / (blank) / Tree=0 / key=value ... / ... / end of trees
"""

import re

import numpy as np

_HEADER = re.compile(
    r"tree\nversion=v[34]\nnum_class=(\d{1,5})\nnum_tree_per_iteration=(\d{1,5})\nlabel_index=0\n"
    r"max_feature_idx=(\d{1,8})\nobjective=multiclass num_class:(\d{1,5})\n"
    r"feature_names=((?:Column_\d+ ?)+)\n"
    r"feature_infos=((?:(?:none|\[[-+.\deinf]+:[-+.\deinf]+\]) ?)+)\ntree_sizes=([\d ]+)\n\n"
)
_NUMBER = r"-?(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|inf|nan)"
_TREE = re.compile(
    r"Tree=(\d+)\nnum_leaves=(\d{1,7})\nnum_cat=0\n"
    rf"((?:[a-z_]+=(?:{_NUMBER}(?: {_NUMBER})*)?\n)*)\n*"
)
_END = re.compile(
    r"end of trees\n\nfeature_importances:\n(?:\S+=\d+\n)*\nparameters:\n"
    r"(?:\[\w+: [^\n\"\\]*\]\n)*\nend of parameters\n(?:\npandas_categorical:(?:null|\[\])\n*)?"
)
_OF_NODES = ("split_feature", "split_gain", "threshold", "decision_type", "left_child")
_OF_NODES += ("right_child", "internal_value", "internal_weight", "internal_count")
_OF_LEAVES = ("leaf_value", "leaf_weight", "leaf_count")
_CATEGORICAL = 1  # Bit of a decision type.


def check(text: str) -> None:
    """Raises ValueError, KeyError or OverflowError unless LightGBM can read a text safely."""
    header = _HEADER.match(text)
    if header is None:
        raise ValueError("its header is not LightGBM's")
    classes, per_round, last_channel, of_objective = map(int, header.group(1, 2, 3, 4))
    names, infos = header[5].split(" "), header[6].split(" ")
    if not 1 < classes == per_round == of_objective:
        raise ValueError("its numbers of classes differ")
    if not len(names) == len(infos) == last_channel + 1:
        raise ValueError("its numbers of channels differ")
    sizes, place = [int(size) for size in header[7].split()], header.end()
    if not sizes or len(sizes) % classes:
        raise ValueError("a round of it has no tree for some class")
    for number, size in enumerate(sizes):
        tree = _TREE.fullmatch(text, place, place + size)
        if tree is None or int(tree[1]) != number:
            raise ValueError(f"its tree {number} is not where it should be")
        lines = tree[3].splitlines()
        arrays = dict(line.split("=", 1) for line in lines)
        if len(arrays) < len(lines) or not _is_tree(int(tree[2]), arrays, last_channel):
            raise ValueError(f"its tree {number} is none")
        place += size
    if not _END.fullmatch(text, place):
        raise ValueError("its end is not LightGBM's")


def _is_tree(leaves: int, arrays: dict[str, str], last_channel: int) -> bool:
    """Whether arrays are those of a tree of so many leaves, and of no channel after the last."""
    if arrays["is_linear"] != "0" or not np.isfinite(float(arrays["shrinkage"])):
        return False
    values = _numbers(arrays["leaf_value"], float)
    if len(values) != leaves or not np.isfinite(values).all():
        return False
    if leaves == 1:
        return True
    nodes = leaves - 1
    if any(arrays[name].count(" ") != nodes - 1 for name in _OF_NODES):
        return False
    if any(arrays[name].count(" ") != leaves - 1 for name in _OF_LEAVES):
        return False
    channels, decisions, left, right = (
        _numbers(arrays[name], np.int32)
        for name in ("split_feature", "decision_type", "left_child", "right_child")
    )
    if np.isnan(_numbers(arrays["threshold"], float)).any():
        return False
    if not ((channels >= 0) & (channels <= last_channel)).all():
        return False
    if (decisions & _CATEGORICAL).any() or not ((decisions >= 0) & (decisions < 16)).all():
        return False
    # Nodes are counted from 0, leaves from -1 downwards; each but the root hangs on one node.
    hung = np.sort(np.concatenate([left, right]))
    expected = np.concatenate([np.arange(-leaves, 0), np.arange(1, nodes)])
    parents = np.arange(nodes)
    grown = ((left < 0) | (left > parents)) & ((right < 0) | (right > parents))
    return len(left) == len(right) == nodes and np.array_equal(hung, expected) and grown.all()


def _numbers(text: str, dtype: type) -> np.ndarray:
    """The numbers of a line, separated by blanks."""
    return np.array(text.split(" "), dtype) if text else np.empty(0, dtype)
