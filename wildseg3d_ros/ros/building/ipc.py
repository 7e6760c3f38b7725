"""IPC transport of objects: the arrays through shared memory, the rest through a socket.

Pickle protocol 5 leaves array contents out of the stream. They are written to an anonymous file in
memory whose descriptor is sent along; the receiver maps it, so that a scene of 100 MB arrives in
milliseconds, without a copy and without holding the interpreter. Received arrays are read-only,
and their memory is freed with the last of them.
"""

from __future__ import annotations

import contextlib
import errno
import io
import mmap
import os
import pickle
import socket
import struct
import tempfile
from typing import Any, BinaryIO

_HEAD = struct.Struct("<QQ")


class Channel:
    """One end of a socket that carries objects. One thread sends and one receives at a time."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    @staticmethod
    def pair() -> tuple[Channel, Channel]:
        """Two connected ends."""
        a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return Channel(a), Channel(b)

    def fileno(self) -> int:
        """Descriptor to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes this end; the other one sees the end of the stream."""
        self._socket.close()

    def send(self, thing: Any) -> None:
        """Sends an object.

        Raises:
            ConnectionError: the other end is gone. OSError: no memory or descriptor for the
                arrays; nothing was sent.
        """
        buffers: list[pickle.PickleBuffer] = []
        stream = io.BytesIO()
        stream.write(bytes(_HEAD.size))
        pickle.Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(thing)
        views = [buffer.raw() for buffer in buffers]
        head = _HEAD.pack(stream.tell() - _HEAD.size, len(views))
        sizes = struct.pack(f"<{len(views)}Q", *(view.nbytes for view in views))
        stream.seek(0)
        stream.write(head)
        with contextlib.ExitStack() as stack:
            descriptors = []
            if views:
                file = stack.enter_context(_shared_file())
                _write_shared(views, file)
                descriptors = [file.fileno()]
            # The descriptor travels with the first byte: a receiver asks for it there.
            socket.send_fds(self._socket, [head[:1]], descriptors)
            self._socket.sendall(memoryview(stream.getbuffer())[1:])
            self._socket.sendall(sizes)

    def receive(self) -> Any:
        """Waits for the next object.

        Raises:
            EOFError: the other end is gone. OSError: no memory or descriptor for the arrays.
        """
        first, descriptors, _, _ = socket.recv_fds(self._socket, 1, 1)
        if not first:
            raise EOFError("the other end of the channel is closed")
        try:
            length, count = _HEAD.unpack(first + self._exactly(_HEAD.size - 1))
            stream = self._exactly(length)
            sizes = struct.unpack(f"<{count}Q", self._exactly(8 * count))
            if count and not descriptors:
                raise OSError(errno.EMFILE, "no file descriptor left to receive arrays with")
            views = _map_shared(descriptors[0], sizes) if count else []
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return pickle.loads(stream, buffers=views)

    def _exactly(self, count: int) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        while view:
            got = self._socket.recv_into(view)
            if not got:
                raise EOFError("the other end of the channel closed in the middle of a message")
            view = view[got:]
        return data


def _shared_file() -> BinaryIO:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("wildseg3d", os.MFD_CLOEXEC), "wb")
    return tempfile.TemporaryFile()


def _write_shared(views: list[memoryview], file: BinaryIO) -> None:
    for view in views:
        start = file.tell()
        file.write(view)
        file.seek(_next(start, view.nbytes))
    file.truncate(max(file.tell(), 1))


def _map_shared(descriptor: int, sizes: tuple[int, ...]) -> list[memoryview]:
    length = os.fstat(descriptor).st_size
    whole = memoryview(mmap.mmap(descriptor, length, access=mmap.ACCESS_READ))
    views, offset = [], 0
    for size in sizes:
        views.append(whole[offset : offset + size])
        offset = _next(offset, size)
    return views


def _next(offset: int, size: int) -> int:
    return -(-(offset + size) // 64) * 64  # to the next cache line
