"""Large ONNX files: a model of 6 GB converted beside `cp`, and what `inspect` reads of a file of 400 MB.

    python benchmarks/onnx_scale.py FOLDER [--gigabytes 6] [--rounds 3]

Writes twice that much to FOLDER and removes it again. Memory is what the process has for itself, the largest value that
was seen: mapped pages of files are the page cache's, and go when it needs them. Both copies are on the disk when their
clock stops: isomorph calls fsync before it renames, and so does `cp` here, by `sync`. What is read of a file is what
of it is in the page cache afterwards (mincore), its pages having been dropped before.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from processes import ONE_THREAD, measure, python

_TILE = 1 << 24
"""Bytes of random weights that are written again and again, each time with another beginning."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A process that wrote a model: seconds of wall and of processor time, and megabytes that it had for itself."""

    seconds: float
    processor: float
    megabytes: float


def make_external(path: Path, gigabytes: float, width: int = 8192) -> None:
    """A chain of MatMuls of (width, width) float32 weights in NAME.onnx.data."""
    layers = max(1, round(gigabytes * 1e9 / (4 * width * width)))
    tile = np.random.default_rng(0).normal(0, 0.01, _TILE // 4).astype(np.float32)
    nbytes = 4 * width * width
    tensors = []
    with path.with_name(f"{path.name}.data").open("wb") as file:
        for layer in range(layers):
            tensor = TensorProto(name=f"layer{layer}.weight", dims=[width, width], data_type=TensorProto.FLOAT)
            tensor.data_location = TensorProto.EXTERNAL
            entries = {"location": f"{path.name}.data", "offset": file.tell(), "length": nbytes}
            for key, value in entries.items():
                tensor.external_data.add(key=key, value=str(value))
            tensors.append(tensor)
            rolled = np.roll(tile, layer + 1).tobytes()
            for start in range(0, nbytes, _TILE):
                file.write(rolled[: min(_TILE, nbytes - start)])
    path.write_bytes(_chain(tensors, width).SerializeToString())
    _sync(path.with_name(f"{path.name}.data"))


def make_inline(path: Path, megabytes: int, width: int = 512) -> None:
    """A chain of MatMuls of (width, width) weights, of a megabyte each, in the .onnx itself."""
    tile = np.random.default_rng(0).normal(0, 0.01, (width, width)).astype(np.float32)
    count = round(megabytes * 1e6 / tile.nbytes)
    tensors = [
        TensorProto(name=f"layer{layer}.weight", dims=tile.shape, data_type=1, raw_data=np.roll(tile, layer).tobytes())
        for layer in range(count)
    ]
    path.write_bytes(_chain(tensors, width).SerializeToString())
    _sync(path)


def _chain(tensors: list[TensorProto], width: int) -> onnx.ModelProto:
    names = ["x", *(f"h{layer}" for layer in range(len(tensors) - 1)), "y"]
    nodes = [
        helper.make_node("MatMul", [names[layer], tensor.name], [names[layer + 1]], name=f"layer{layer}")
        for layer, tensor in enumerate(tensors)
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width]) for name in ("x", "y"))
    graph = helper.make_graph(nodes, "chain", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def convert(source: Path, target: Path) -> Copy:
    """`isomorph convert`, watched."""
    return _watched(python("-m", "isomorph", "convert", source, target, "--force", "--json"), target.parent)


def copied(source: Path, target: Path) -> Copy:
    """`cp` of the weights, and `sync` of the copy."""
    data, other = (path.with_name(f"{path.name}.data") for path in (source, target))
    return _watched(["sh", "-c", 'cp "$0" "$1" && sync "$1"', str(data), str(other)], target.parent)


def _watched(command: list[str], folder: Path) -> Copy:
    began, most = time.perf_counter(), 0
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, **ONE_THREAD}, stdout=subprocess.DEVNULL)
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        most = max(most, _own_memory(process.pid))
        time.sleep(0.01)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}")
    return Copy(seconds, usage.ru_utime + usage.ru_stime, most / 1000)


def _own_memory(pid: int) -> int:
    """Resident kB of a process that no file backs."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def forget(path: Path) -> None:
    """Drop a file from the page cache."""
    _sync(path)
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached(path: Path) -> int:
    """Bytes of a file that are in the page cache."""
    mapped = np.memmap(path, np.uint8, mode="r")
    pages = (ctypes.c_ubyte * -(-mapped.size // mmap.PAGESIZE))()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mincore(ctypes.c_void_p(mapped.ctypes.data), ctypes.c_size_t(mapped.size), pages):
        raise OSError(ctypes.get_errno(), "mincore")
    return sum(page & 1 for page in pages) * mmap.PAGESIZE


def _conversion(folder: Path, gigabytes: float, rounds: int) -> None:
    source, target = folder / "large.onnx", folder / "copy.onnx"
    make_external(source, gigabytes)
    size = source.with_name("large.onnx.data").stat().st_size
    peers, ours = [], []
    for _ in range(rounds):
        for runs, run in ((peers, copied), (ours, convert)):
            runs.append(run(source, target))
            for path in (target, target.with_name("copy.onnx.data")):
                path.unlink(missing_ok=True)
    peer, own = (statistics.median(run.seconds for run in runs) for runs in (peers, ours))
    processor = [statistics.median(run.processor for run in runs) for runs in (peers, ours)]
    print(f"{size / 1e9:.2f} GB: cp {peer:.1f} s ({size / 1e6 / peer:.0f} MB/s), isomorph {own:.1f} s "
          f"({size / 1e6 / own:.0f} MB/s), {peer / own:.2f} of cp's speed; processor {processor[0]:.1f} and "
          f"{processor[1]:.1f} s; {max(run.megabytes for run in ours):.0f} MB resident")  # fmt: skip


def _inspection(folder: Path, megabytes: int, rounds: int) -> None:
    path = folder / "inline.onnx"
    make_inline(path, megabytes)
    size = path.stat().st_size
    command = python("-m", "isomorph", "inspect", path)
    measure(command, folder=folder).check()
    seconds, processor, start, read = [], [], [], 0
    for _ in range(rounds):
        forget(path)
        done = measure(command, folder=folder).check()
        read = max(read, cached(path))
        seconds.append(done.seconds)
        processor.append(done.processor)
        start.append(measure(python("-c", "pass"), folder=folder).check().processor)
    print(f"{size / 1e6:.0f} MB: inspect {statistics.median(seconds):.2f} s, {statistics.median(processor):.2f} s of "
          f"processor time, of which an empty interpreter takes {statistics.median(start):.2f} s; "
          f"{read / 1e6:.1f} MB read, {100 * read / size:.1f} %")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=6.0)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    folder = given.folder.resolve() / "onnx-scale"
    folder.mkdir(parents=True)
    try:
        _inspection(folder, given.megabytes, given.rounds)
        _conversion(folder, given.gigabytes, given.rounds)
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
