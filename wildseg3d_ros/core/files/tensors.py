"""Files of tensors, looked at before the libraries that read them are: .pth and .safetensors.

Those take what a file says for true: the memory that it asks for, and the values that it nests.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

from wildseg3d_ros.core.files.arrays import UNREADABLE, opened_zip
from wildseg3d_ros.core.files.reading import MIB, opened

_LARGEST = 1 << 40
_LARGEST_HEADER = 8 * MIB
"""Bytes of the header of a .safetensors file: published ones have 0.2 MB."""
_LARGEST_PICKLE = 16 * MIB
"""Bytes that say which tensors a .pth file has: published ones have 0.3 MB, and the history of a
training has nine for each number."""
_MOST_MADE = 2 * MIB
"""Bytes of it that make a list, tuple or dictionary, each of which takes sixty in memory."""
_MAKES = b"}])(\x85"
_MOST_OF_SETS, _LONGEST_KEY = 1_000_000, 8
"""Values in all sets; values of a tuple that is a key."""
_OF_KEYS = {
    (module, name)
    for name in ("set", "frozenset", "Counter", "OrderedDict")
    for module in ("builtins", "__builtin__", "collections")
}
"""Types that are given values to hash, as many as they like."""
_MOST_GIVEN = 100
"""Values in a list that a type of a .pth file is given; tensors have six."""
_SHORT, _LONG = struct.Struct("<I").unpack_from, struct.Struct("<Q").unpack_from
_CODES = (
    "PROTO STOP MARK GLOBAL REDUCE BUILD APPEND APPENDS SETITEM SETITEMS NONE NEWTRUE NEWFALSE "
    "EMPTY_LIST EMPTY_DICT BINFLOAT BININT BININT1 BININT2 LONG1 BINUNICODE SHORT_BINSTRING "
    "BINGET LONG_BINGET BINPUT LONG_BINPUT BINPERSID"
)
"""What torch.save writes and torch reads, beside tuples and new objects."""


def check_safetensors(path: Path) -> None:
    """Looks at the size of the header of a .safetensors file, which takes twenty times its bytes.

    Raises:
        FileError: missing or no file. ValueError: a header larger than any network's.
    """
    with opened(path, "weights", _LARGEST) as file:
        start = file.read(8)
    if len(start) == 8 and (size := struct.unpack("<Q", start)[0]) > _LARGEST_HEADER:
        raise ValueError(f"a header of {size / 1e6:.1f} MB; no network has more than 8")


def check_pth(path: Path) -> None:
    """Looks at what torch is to unpickle in a .pth file, without making any of it.

    Raises:
        FileError: missing or no file. ValueError: no zip file, or one that torch.save does not
            write. pickle.UnpicklingError: what is pickled is not tensors and plain values, or is
            nested where it is hashed or printed.
    """
    try:
        with opened_zip(path, "weights") as archive:
            pickled = [_read_pickle(archive, m) for m in _members(archive) if _says_tensors(m)]
    except UNREADABLE as error:
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0]) from error
    for data in pickled:
        try:
            _Rehearsal(io.BytesIO(data)).load()
        except pickle.UnpicklingError:
            raise
        except KeyError as error:
            raise pickle.UnpicklingError("it has what torch.save does not write") from error
        # The stack may be empty, or hold what it should not.
        except Exception as error:
            raise pickle.UnpicklingError(str(error)[:200]) from error


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The members, which torch's own reader finds as well: one list of them, where it is said to
    be, of names that differ in more than their case, and nothing packed."""
    members, file = archive.infolist(), archive.fp
    assert file is not None
    size = os.fstat(file.fileno()).st_size
    file.seek(size - min(98, size))
    end = file.read().rjust(98)
    begin = _SHORT(end, 92)[0]
    if end[56:60] == b"PK\x06\x07":  # of an archive that may be larger than 4 GB
        begin = _LONG(end, 48)[0]
        if end[:4] != b"PK\x06\x06" or _LONG(end, 64)[0] != size - 98:
            raise ValueError("its end is damaged")
    if end[76:80] != b"PK\x05\x06" or archive.start_dir != begin:
        raise ValueError("its list of members is not where its end says")
    if len({member.filename.lower() for member in members}) < len(members):
        raise ValueError("two members of one name")
    if any(m.compress_type or m.compress_size != m.file_size for m in members):
        raise ValueError("it has packed members, which torch.save does not write")
    return members


def _says_tensors(member: zipfile.ZipInfo) -> bool:
    return member.filename.lower().endswith(".pkl")


def _read_pickle(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.file_size > _LARGEST_PICKLE:
        raise ValueError(
            f"'{member.filename}' has {member.file_size / 1e6:.1f} MB, and at most "
            f"{_LARGEST_PICKLE / 1e6:.0f} MB are read; save the tensors alone"
        )
    data = archive.read(member)
    if sum(data.count(code) for code in _MAKES) > _MOST_MADE:
        raise ValueError(f"'{member.filename}' has millions of lists, tuples or dictionaries")
    return data


_OfPython: Any = vars(pickle)["_Unpickler"]
"""Python's own, in Python, what each code does in a table."""


class _Stand:
    """Stands for each type, function and object that is named; nothing of it is looked up."""

    def __call__(self, *given: Any) -> _Stand:
        _check_plain(list(given))
        return _Stand()

    def __setitem__(self, key: Any, _: Any) -> None:
        hash(key)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            _check_plain(state)


class _Tuple(list):
    """Stands for a tuple, and is a key if it holds a few plain values: to hash or to print one
    that holds another one twice, and so on, takes for ever."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]
        if len(self) > _LONGEST_KEY or any(isinstance(each, _Tuple) for each in self):
            raise pickle.UnpicklingError("it has a tuple as a key that is long or holds tuples")
        return hash(tuple(self))


class _OfKeys(_Stand):
    """Stands for a type that hashes what it is given."""

    def __init__(self, rehearsal: _Rehearsal) -> None:
        self._rehearsal = rehearsal

    def __call__(self, *given: Any) -> _Stand:
        if len(given) != 1 or not isinstance(given[0], (list, dict)):
            return super().__call__(*given)
        self._rehearsal.hashed += len(given[0])
        if self._rehearsal.hashed > _MOST_OF_SETS:
            raise pickle.UnpicklingError(f"it has sets of more than {_MOST_OF_SETS} values")
        for each in given[0]:
            hash(each)
        return _Stand()


class _Rehearsal(_OfPython):
    """Goes through what is pickled, and makes nothing of it but lists and dictionaries."""

    hashed = 0

    def find_class(self, module: str, name: str) -> _Stand:
        return _OfKeys(self) if (module, name) in _OF_KEYS else _Stand()

    def persistent_load(self, given: Any) -> _Stand:
        return _Stand()(*given)

    def _tuple1(self) -> None:
        self._of_last(1)

    def _tuple2(self) -> None:
        self._of_last(2)

    def _tuple3(self) -> None:
        self._of_last(3)

    def _of_last(self, count: int) -> None:
        self.stack[len(self.stack) - count :] = [_Tuple(self.stack[len(self.stack) - count :])]

    def _of_marked(self) -> None:
        items = self.pop_mark()
        self.append(_Tuple(items))

    def _empty(self) -> None:
        self.append(_Tuple())

    dispatch = {  # noqa: RUF012
        **{
            code: _OfPython.dispatch[code]
            for code in (getattr(pickle, name)[0] for name in _CODES.split())
        },
        pickle.EMPTY_TUPLE[0]: _empty,
        pickle.NEWOBJ[0]: _OfPython.load_reduce,
        pickle.TUPLE[0]: _of_marked,
        pickle.TUPLE1[0]: _tuple1,
        pickle.TUPLE2[0]: _tuple2,
        pickle.TUPLE3[0]: _tuple3,
    }


def _check_plain(value: Any, depth: int = 2) -> None:
    """Raises UnpicklingError where what a type is given is more than values and lists of them."""
    if isinstance(value, dict) and value:
        raise pickle.UnpicklingError("a type is given a dictionary")
    if isinstance(value, list):
        if depth == 0 or len(value) > _MOST_GIVEN:
            raise pickle.UnpicklingError("a type is given lists within each other, or long ones")
        for each in value:
            _check_plain(each, depth - 1)
