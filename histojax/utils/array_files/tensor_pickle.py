"""An interpreter of PyTorch's pickles that knows tensors, dictionaries and plain values, only.

`pickletools` takes a pickle apart without running it. The instructions below are all that
`torch.save` needs for a state dict; a name to import is compared with a table of words and never
imported. Everything else is refused.

A state dict nested in others comes out flat, names joined by dots: `teacher.backbone.conv1.weight`.
"""

import collections
import dataclasses
import pickletools
from collections.abc import Callable
from typing import Any

from histojax.utils.array_files.stored import Refused, require_few, shape_of

LONGEST = 4 * 2**20  # Bytes of a pickle; a state dict has about 150 for each tensor.
_DEEPEST = 8
_LONGEST_KEY = 256
_MOST_ARGUMENTS = 8

# torch's storage classes: dtypes by NumPy's names.
STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


@dataclasses.dataclass(frozen=True)
class Storage:
    """Values in a member of the archive, `data/<key>`; `count` of a dtype by NumPy's name."""

    dtype: str
    key: str
    count: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides count values."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Name:
    """What the pickle wants to import: a word here."""

    name: str


def _tensor(storage: Any, offset: Any, sides: Any, strides: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise Refused("a tensor in it is not a view of a storage")
    (offset,) = shape_of("the offset of a tensor", (offset,))
    shape, strides = shape_of("a tensor", sides), shape_of("the strides of a tensor", strides)
    if len(shape) != len(strides):
        raise Refused("a tensor in it has more sides than strides, or fewer")
    return Tensor(storage, offset, shape, strides)


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise Refused("a parameter in it is not a tensor")
    return data


# What may be called, by the name that the pickle has for it.
_CALLABLES: dict[str, Callable] = {
    "collections OrderedDict": dict,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}


def _updated(target: Any, items: list) -> Any:
    """A dictionary with the keys and values of a flat list."""
    if not isinstance(target, dict) or len(items) % 2:
        raise Refused("it sets items of something that is not a dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        text = isinstance(key, str) and len(key) <= _LONGEST_KEY
        if not text and not (type(key) is int and abs(key) < 2**31):
            raise Refused("a dictionary in it has a key that is neither a short text nor a number")
        target[key] = value
    return target


def _appended(target: Any, items: list) -> Any:
    if not isinstance(target, list):
        raise Refused("it appends to something that is not a list")
    target.extend(items)
    return target


def _named(argument: str) -> _Name:
    module, _, name = argument.partition(" ")
    storage = module == "torch" and name in STORAGES
    if argument not in _CALLABLES and not storage:
        raise Refused(
            f"it asks for {module[:80]}.{name[:80]}, which is no tensor; none of it was run. Save "
            "the state dict by itself (torch.save(model.state_dict(), ...)) or as safetensors"
        )
    return _Name(name if storage else argument)


def _called(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Name) or function.name not in _CALLABLES:
        raise Refused("it calls something that is no constructor of tensors")
    if not isinstance(arguments, tuple) or len(arguments) > _MOST_ARGUMENTS:
        raise Refused("it calls without arguments, or with too many")
    if function.name.endswith("OrderedDict") and arguments:
        raise Refused("it fills a dictionary as torch.save does not")
    return _CALLABLES[function.name](*arguments)


def _persistent(identity: Any) -> Storage:
    match identity:
        case ("storage", _Name(name), str(key), str(), int(count)) if name in STORAGES:
            if count >= 0 and len(key) <= 32 and key.isalnum():
                return Storage(STORAGES[name], key, count)
    raise Refused("it refers to something outside that is no storage")


def _built(target: Any, state: Any) -> Any:
    """An OrderedDict's own attributes, such as torch's `_metadata`, are dropped."""
    if not isinstance(target, dict) or not isinstance(state, dict):
        raise Refused("it sets the state of something that is no dictionary")
    return target


def interpret(content: bytes) -> Any:
    """The value of a pickle: dictionaries, lists, tuples, plain values and `Tensor`s.

    Raises:
      Refused: an instruction, name or value that a state dict has no need of.
      ValueError, IndexError, KeyError, TypeError: it is damaged.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list:
        place = marks.pop()
        items = stack[place:]
        del stack[place:]
        return items

    for opcode, argument, _ in pickletools.genops(content):
        match opcode.name:
            case "PROTO" if argument > 4:
                raise Refused(f"it is of pickle protocol {argument}, expected at most 4")
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                marks.append(len(stack))
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE":
                stack.append(argument)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode.name[-1])
                items = tuple(stack[-count:])
                del stack[-count:]
                stack.append(items)
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _updated(stack[-1], [key, value])
            case "SETITEMS":
                items = since_mark()
                _updated(stack[-1], items)
            case "APPEND":
                value = stack.pop()
                _appended(stack[-1], [value])
            case "APPENDS":
                items = since_mark()
                _appended(stack[-1], items)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_named(argument))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_named(f"{module} {name}"))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_called(function, arguments))
            case "BINPERSID":
                stack.append(_persistent(stack.pop()))
            case "BUILD":
                state = stack.pop()
                _built(stack[-1], state)
            case other:
                raise Refused(f"it has the pickle instruction {other}, which tensors do not need")
    raise Refused("its pickle has no end")


def tensors(value: Any) -> dict[str, Tensor]:
    """The tensors of nested dictionaries by their keys, joined by dots.

    Raises:
      Refused: there are absurdly many, or dictionaries are nested absurdly deep.
    """
    found: dict[str, Tensor] = {}
    pending = collections.deque([("", value, 0)])
    while pending:
        name, item, depth = pending.popleft()
        if isinstance(item, Tensor):
            found[name] = item
        elif isinstance(item, dict):
            require_few(len(found) + len(pending) + len(item))
            if depth == _DEEPEST:
                raise Refused(f"its dictionaries are nested deeper than {_DEEPEST} levels")
            prefix = f"{name}." if name else ""
            pending.extend((f"{prefix}{key}", inner, depth + 1) for key, inner in item.items())
    return found
