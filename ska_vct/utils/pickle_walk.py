"""A pickle's opcodes (Python's ``pickletools``) carried out on inert values: nothing is called or imported.

A function or class that the pickle asks for is a :class:`Name`, a call a :class:`Call`, a reference of
``torch.save`` to a storage a :class:`Persistent`, a dict a :class:`PickledDict`; all else is a plain value. Files
of ``torch.save`` are opened into their pickle and their storages.
"""

import io
import os
import pickletools
import zipfile
from dataclasses import dataclass, field
from typing import IO, Any

from ska_vct.utils.errors import InputError

# Of 300 arrays with names and numbers a published checkpoint's pickle has about 20,000 opcodes.
_MAX_OPCODES = 200_000
# A training's checkpoint has the optimiser's arrays too; names of classes and functions are short.
_MAX_CHECKED, _MAX_NAME = 1_000_000, 300
_ZIP = b"PK\x03\x04"
_OLD_MAGIC = 0x1950A86A20F9469CFC6C


class UnsafePickleError(InputError):
    """A pickle asks for something else than arrays, or is not one; the message says for what."""


@dataclass(frozen=True)
class Name:
    """A function or class that the pickle asks for."""

    module: str
    name: str

    def __str__(self) -> str:
        return repr(f"{self.module[:60]}.{self.name[:60]}")


@dataclass(eq=False)
class Call:
    """A call that the pickle asks for, and the state it wants to set afterwards."""

    function: Any
    args: tuple
    state: Any = None


@dataclass(eq=False)
class Persistent:
    """``torch.save``'s reference to a storage: the word storage, its class, key, device and length."""

    key: Any


@dataclass(eq=False)
class PickledDict:
    """Keys and values in their order; keys are not hashed, which could recurse without bound."""

    items: list[tuple[Any, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class PickleFile:
    """A walked file.

    Attributes:
        top: its value.
        size: bytes of the file.
        parts: of a zip file of ``torch.save``: name -> content.
        keys, tail: of an older file of ``torch.save``: keys of its storages, and the bytes that hold them.
    """

    top: Any
    size: int
    parts: dict[str, bytes] = field(default_factory=dict)
    keys: list | None = None
    tail: bytes = b""


def open_pickle(data: bytes) -> PickleFile:
    """Walk a pickle or a file of ``torch.save``.

    Raises:
        UnsafePickleError: it uses opcodes that arrays do not need, or is too long.
        Exception: of nearly any kind when it is damaged.
    """
    if data[:4] == _ZIP:
        return _open_zip(data)
    stream = io.BytesIO(data)
    top = walk(stream)
    if not isinstance(top, int) or top != _OLD_MAGIC:
        return PickleFile(top, len(data))
    # torch.save before 1.6: magic, version, facts of the machine, the object, keys, then the storages.
    version, machine = walk(stream), walk(stream)
    facts = {key: value for key, value in machine.items if isinstance(key, str)}
    if version != 1001 or facts.get("little_endian") is not True:
        raise UnsafePickleError("was saved by an unknown version of torch.save, or on a big-endian machine")
    top, keys = walk(stream), walk(stream)
    if not isinstance(keys, list):
        raise UnsafePickleError("is broken (it has no list of storages)")
    return PickleFile(top, len(data), keys=keys, tail=data[stream.tell() :])


def check_names(path: str | os.PathLike) -> None:
    """Refuse a file of ``torch.save`` whose pickle has very long names or very many opcodes.

    PyTorch puts a forbidden name into its message and searches it in a time that grows with the square of its
    length.

    Raises:
        UnsafePickleError: a name or the pickle is too long.
        Exception: of nearly any kind when the file is damaged.
    """
    with open(path, "rb") as stream:
        is_zip = stream.read(4) == _ZIP
    if is_zip:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith("data.pkl"):
                    with archive.open(info) as stream:
                        _check_names(stream)
        return
    with open(path, "rb") as stream:
        # The five pickles of torch.save before 1.6, see open_pickle.
        for _ in range(5):
            _check_names(stream)


def _check_names(stream: IO[bytes]) -> None:
    for count, (opcode, arg, _) in enumerate(pickletools.genops(stream)):
        if count > _MAX_CHECKED:
            raise UnsafePickleError("is longer than weights need")
        if opcode.name in ("GLOBAL", "INST") and len(str(arg)) > _MAX_NAME:
            raise UnsafePickleError("has a name longer than that of any class")


def _open_zip(data: bytes) -> PickleFile:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
        if len(infos) > 100_000 or any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise UnsafePickleError("is an archive, but not one of torch.save")
        if sum(info.file_size for info in infos) > len(data):
            raise UnsafePickleError("is broken (its parts are larger than the file)")
        parts = {info.filename.partition("/")[2]: archive.read(info) for info in infos}
    if "data.pkl" not in parts:
        raise UnsafePickleError("is an archive, but not one of torch.save")
    if parts.get("byteorder", b"little").strip() != b"little":
        raise UnsafePickleError("was saved on a big-endian machine")
    return PickleFile(walk(io.BytesIO(parts["data.pkl"])), len(data), parts=parts)


def walk(stream: io.BytesIO) -> Any:
    """The value of one pickle; the stream is left behind its end.

    Raises:
        As :func:`open_pickle`.
    """
    machine = _Machine()
    for count, (opcode, arg, _) in enumerate(pickletools.genops(stream)):
        if count > _MAX_OPCODES:
            raise UnsafePickleError("is longer than arrays need")
        if opcode.name == "STOP":
            return machine.result()
        machine.step(opcode.name, arg)
    raise UnsafePickleError("is broken (it has no end)")


class _Machine:
    def __init__(self) -> None:
        self._stack: list = []
        self._below: list[list] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        if len(self._stack) != 1 or self._below:
            raise UnsafePickleError("is broken (values are left over)")
        return self._stack[0]

    def step(self, name: str, arg: Any) -> None:
        stack = self._stack
        if name in _LITERALS:
            stack.append(arg)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if arg is None else arg] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[arg])
        elif name == "MARK":
            self._below.append(stack)
            self._stack = []
        elif name == "GLOBAL":
            module, _, attribute = arg.partition(" ")
            stack.append(Name(module, attribute))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            if not isinstance(attribute, str) or not isinstance(module, str):
                raise UnsafePickleError("is broken (a name is not text)")
            stack.append(Name(module, attribute))
        elif name in ("EMPTY_LIST", "EMPTY_DICT"):
            stack.append([] if name == "EMPTY_LIST" else PickledDict())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self._push_tuple(int(name[-1]))
        elif name in ("TUPLE", "LIST", "DICT", "APPENDS", "SETITEMS"):
            self._collect(name, self._pop_mark())
        elif name == "APPEND":
            self._collect("APPENDS", [stack.pop()])
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            self._collect("SETITEMS", [key, value])
        elif name == "REDUCE":
            args, function = stack.pop(), stack.pop()
            if not isinstance(args, tuple):
                raise UnsafePickleError("is broken (arguments are missing)")
            stack.append(Call(function, args))
        elif name == "BUILD":
            state, target = stack.pop(), stack[-1]
            if not isinstance(target, Call):
                raise UnsafePickleError("is broken (a state without an object)")
            if target.state is None:  # attributes of an OrderedDict are nothing that arrays need
                target.state = state
        elif name == "BINPERSID":
            stack.append(Persistent(stack.pop()))
        elif name not in ("PROTO", "FRAME"):
            raise UnsafePickleError(f"uses {name}, which arrays do not need")

    def _pop_mark(self) -> list:
        values, self._stack = self._stack, self._below.pop()
        return values

    def _push_tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise UnsafePickleError("is broken (values are missing)")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _collect(self, name: str, values: list) -> None:
        if name == "TUPLE":
            self._stack.append(tuple(values))
        elif name == "LIST":
            self._stack.append(values)
        elif name == "APPENDS":
            if not isinstance(self._stack[-1], list):
                raise UnsafePickleError("is broken (a list is missing)")
            self._stack[-1].extend(values)
        else:
            if name == "DICT":
                self._stack.append(PickledDict())
            target = self._stack[-1]
            if isinstance(target, Call):  # an OrderedDict's items
                target.state = target.state if isinstance(target.state, PickledDict) else PickledDict()
                target = target.state
            if not isinstance(target, PickledDict) or len(values) % 2:
                raise UnsafePickleError("is broken (a dict is missing)")
            target.items.extend(zip(values[::2], values[1::2], strict=True))


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
