"""Shape inference and the checker of the onnx package, in a process of their own.

Both are C++ that trusts attributes: LayerNormalization with an axis behind the last ends the process. The worker is
started when a file first needs it, lives as long as this process, and is started anew if a node brings it down, keeps
it busy for long or makes it ask for much memory.

    request   kind (1 byte), length (8 bytes), ModelProto
    answer    status (1 byte), length (8 bytes), ModelProto or the text of the error
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import IO, TYPE_CHECKING, Any, NoReturn

import onnx

if TYPE_CHECKING:
    from subprocess import Popen

__all__ = ["Crash", "Refusal", "check", "infer"]

_INFER, _INFER_STRICTLY, _CHECK = b"i", b"s", b"c"
_DONE, _REFUSED = b"d", b"r"
_LONGEST = 10.0
"""Seconds that one node may take; the rule is a millisecond."""
_LONGEST_START = 120.0
"""Seconds that the process may take for its first node; it imports the onnx package before."""
_MOST_MEMORY = 4 << 30


class Refusal(ValueError):
    """What the onnx package says against a node."""


class Crash(RuntimeError):
    """The onnx package did not come back from a node."""


def infer(model: onnx.ModelProto, *, strict: bool = False) -> onnx.ModelProto:
    """The model with the types that inference finds. Raises Refusal (of operands that do not fit, if strict), Crash."""
    answer = _WORKER.ask(_INFER_STRICTLY if strict else _INFER, model.SerializeToString())
    return onnx.ModelProto.FromString(answer)


def check(model: onnx.ModelProto) -> None:
    """Raise Refusal unless each node is as its operator is defined; Crash."""
    _WORKER.ask(_CHECK, model.SerializeToString())


class _Worker:
    """The other process, and whose turn it is to talk to it."""

    def __init__(self) -> None:
        self._process: Popen[bytes] | None = None
        self._owner = 0  # the process that it was started in: one that forks has another
        self._lock = threading.Lock()

    def ask(self, kind: bytes, message: bytes) -> bytes:
        with self._lock:
            process, fresh = self._running()
            assert process.stdin is not None and process.stdout is not None
            limit = threading.Timer(_LONGEST_START if fresh else _LONGEST, process.kill)
            limit.daemon = True
            limit.start()
            try:
                _send(process.stdin, kind, message)
                received = _receive(process.stdout)
            except OSError:
                received = None
            finally:
                limit.cancel()
            if received is None:
                self._end(process)
        status, answer = received
        if status == _REFUSED:
            raise Refusal(answer.decode(errors="replace"))
        return answer

    def _running(self) -> tuple[Popen[bytes], bool]:
        """The process, and whether it was started just now."""
        fresh = self._process is None or self._owner != os.getpid() or self._process.poll() is not None
        if self._process is None or fresh:
            from subprocess import DEVNULL, PIPE, Popen

            self._owner = os.getpid()
            self._process = Popen(
                [sys.executable, "-P", "-m", "isomorph.converters.onnx.inference"],
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
            )
        return self._process, fresh

    def _end(self, process: Popen[bytes]) -> NoReturn:
        self.close()
        raise Crash(f"the onnx package ended with status {process.returncode}")

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # what it never read
                if pipe is not None:
                    pipe.close()


_WORKER = _Worker()
atexit.register(_WORKER.close)


def _send(pipe: IO[bytes], kind: bytes, message: bytes) -> None:
    pipe.write(kind + len(message).to_bytes(8, "little") + message)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> tuple[bytes, bytes] | None:
    """(kind, message), None where the other side has ended."""
    head = pipe.read(9)
    if len(head) < 9:
        return None
    message = pipe.read(int.from_bytes(head[1:], "little"))
    return head[:1], message


def _serve() -> None:
    """Answer until the other side closes its end."""
    _limit_memory()
    while (request := _receive(sys.stdin.buffer)) is not None:
        kind, message = request
        try:
            status, answer = _DONE, _answer(kind, onnx.ModelProto.FromString(message))
        except Exception as error:  # C++ raises what it likes; all of it speaks against the node
            status, answer = _REFUSED, f"{error}".encode(errors="replace")
        _send(sys.stdout.buffer, status, answer)


def _answer(kind: bytes, model: onnx.ModelProto) -> bytes:
    if kind != _CHECK:
        inferred: Any = onnx.shape_inference.infer_shapes(model, strict_mode=kind == _INFER_STRICTLY)
        made: bytes = inferred.SerializeToString()
        return made
    context = onnx.checker.C.CheckerContext()
    context.ir_version = onnx.IR_VERSION
    context.opset_imports = {item.domain: item.version for item in model.opset_import}
    for node in model.graph.node:
        onnx.checker.check_node(node, context)
    return b""


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not a POSIX system
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _serve()
