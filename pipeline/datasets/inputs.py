"""Input files, local or remote: found, opened plain, .gz or .zst, and read as blocks of whole lines."""

import contextlib
import dataclasses
import glob
import io
import os
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa

from pipeline.config_values import did_you_mean
from pipeline.errors import UserError

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
EXPANSION = 4  # bytes of click logs per compressed byte, about
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_BUFFER_BYTES = 2**20
_CHECK = "Check the path (--data PATH or data.path)."


@dataclasses.dataclass(frozen=True)
class Block:
    """Whole lines of a file; `first_line` is the number of the first of them, from 1."""

    path: str
    first_line: int
    data: bytes


def is_remote(path: str) -> bool:
    """Whether `path` is of a file system that TensorFlow knows by a scheme, such as gs://."""
    return "://" in path


def find_inputs(path: str | None) -> list[str]:
    """The files that a path or a pattern (*, ?, [...]) names, sorted; local ones absolute.

    Raises:
        UserError: if there is none; it names files with similar names.
    """
    absolute = os.path.abspath(os.path.expanduser(path or ""))
    if path is not None and is_remote(path):
        return _find_remote(path)
    if os.path.isfile(absolute):
        return [absolute]
    found = sorted(name for name in glob.glob(absolute) if os.path.isfile(name))
    if found:
        return found
    if os.path.isdir(absolute):
        raise UserError(f"{path}: is a directory; a file is needed. Name the file itself: --data {path}/FILE.")
    folder, name = os.path.split(absolute)
    if not os.path.isdir(folder):
        raise UserError(f"{path}: no such file, nor the directory {folder}. {_CHECK}")
    hint = did_you_mean(name, sorted(os.listdir(folder)))
    raise UserError(f"{path}: no such file in {folder}.{hint} {_CHECK}")


def _find_remote(path: str) -> list[str]:
    import tensorflow as tf

    with reading(path):
        found = sorted(tf.io.gfile.glob(path))
    if not found:
        raise UserError(f"{path}: no such file. {_CHECK}")
    return found


def describe_input(path: str) -> tuple[str, int, int]:
    """(path, bytes, time of change in ns): what tells one state of a file from another."""
    with reading(path):
        if is_remote(path):
            import tensorflow as tf

            stat = tf.io.gfile.stat(path)
            return path, stat.length, stat.mtime_nsec
        local = os.stat(path)
        return path, local.st_size, local.st_mtime_ns


@contextlib.contextmanager
def open_input(path: str) -> Iterator[IO[bytes]]:
    """The bytes of a file, decompressed if its name ends in .gz or .zst. Raises: UserError, see `reading`."""
    with contextlib.ExitStack() as stack:
        file: Any
        with reading(path):
            if is_remote(path):
                import tensorflow as tf  # not at the top: local files do without the seconds that this import takes

                file = io.BufferedReader(_Raw(stack.enter_context(tf.io.gfile.GFile(path, "rb"))), _BUFFER_BYTES)
            else:
                file = stack.enter_context(open(path, "rb"))
        compression = COMPRESSIONS.get(os.path.splitext(path)[1])
        if compression is None:
            yield file
        else:
            yield io.BufferedReader(_Raw(pa.CompressedInputStream(file, compression)), _BUFFER_BYTES)


class _Raw(io.RawIOBase):
    """What pyarrow and TensorFlow open, which have no lines, as Python's own kind of file."""

    def __init__(self, file: Any):
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@contextlib.contextmanager
def reading(path: str, lines_read: int | None = None) -> Iterator[None]:
    """Turns errors of file systems and of decompression into a UserError that names file, last line read and cure."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # pyarrow's, of compressed data
            place = path if lines_read is None else f"{path}: broken after line {lines_read}"
            kind = COMPRESSIONS.get(os.path.splitext(path)[1], "compressed")
            raise UserError(f"{place}: not a whole {kind} file ({error}). Copy or download it again.") from error
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}). Check the file and its permissions."
        ) from error
    except Exception as error:
        if not is_remote(path) or type(error).__module__ != "tensorflow.python.framework.errors_impl":
            raise
        cure = "Check the address, the credentials in the environment and the bucket's permissions"
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}: {error}). {cure}, or copy the file to this machine."
        ) from error


def estimate_bytes(files: list[str]) -> int:
    """Bytes of text in the files, decompressed, about."""
    sizes = [(describe_input(file)[1], os.path.splitext(file)[1] in COMPRESSIONS) for file in files]
    return sum(size * (EXPANSION if is_compressed else 1) for size, is_compressed in sizes)


def read_blocks(path: str, num_bytes: int, first_line: int = 1) -> Iterator[Block]:
    """The file from line `first_line` on, in blocks of at most `num_bytes` that end with a line; the same ones each time.

    Raises:
        UserError: if it cannot be read, or a line takes a whole block.
    """
    line, rest = 1, b""
    with open_input(path) as stream:
        while True:
            with reading(path, line - 1):
                data = stream.read(num_bytes - len(rest))
            if line == 1 and not rest:
                data = data.removeprefix(BYTE_ORDER_MARK)
            end = data.rfind(b"\n") + 1
            if data and not end:
                rest += data
                if len(rest) >= num_bytes:
                    message = f"{path}, line {line}: no end of the line within {num_bytes:,} bytes"
                    raise UserError(f"{message}. Is it a text file, of one row a line?")
                continue
            lines = rest + data[:end] if data else rest
            rest = data[end:]
            if lines:
                begin = line
                line += lines.count(b"\n")
                for _ in range(begin, min(first_line, line)):
                    lines = lines[lines.index(b"\n") + 1 :]
                yield Block(path, max(begin, first_line), lines)
            if not data:
                return
