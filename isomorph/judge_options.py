"""Options of `isomorph validate` that say how the judge runs the two models, and what the call makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isomorph.records import record

if TYPE_CHECKING:
    from isomorph.inputs import Data
    from isomorph.sources import Source
    from isomorph.validators.runner import RunnerChoice, Subject

__all__ = ["Judging", "judge_options"]

TIMEOUT = 600.0
PRECISIONS = ("float32", "tf32", "fp16", "bf16", "int8")
_OPTIONS = (
    click.option(
        "--data",
        metavar="FILE.npz|FOLDER|MODULE:FUNCTION",
        help="Real inputs beside the generated ones: arrays by name, images (see --images), or your own code.",
    ),
    click.option("--images", metavar="KEY=VALUE,...", help="How images become inputs, e.g. range=0..1,size=224x224."),
    click.option(
        "--map",
        "maps",
        metavar="SOURCE=TARGET[PERMUTATION]",
        multiple=True,
        help="Pair an input or output of SOURCE with one of TARGET, e.g. 'x=serving_default_x[0,2,3,1]'.",
    ),
    click.option(
        "--runner",
        "runners",
        metavar="[SIDE=]NAME[:BACKEND][=PYTHON]",
        multiple=True,
        help="What runs a side, and in which interpreter, e.g. keras:torch, target=onnxruntime=/envs/old/bin/python.",
    ),
    click.option(
        "--device",
        "devices",
        metavar="[SIDE=]DEVICE",
        multiple=True,
        help="cpu (default), cuda[:N], mps, or a provider of onnxruntime (tensorrt, openvino, coreml).",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=TIMEOUT,
        metavar="SECONDS",
        help="How long a runner may take for one request (default 600).",
    ),
    click.option(
        "--memory",
        type=click.IntRange(min=1),
        metavar="MB",
        help="What each runner may allocate (default: 80 % of the machine's memory).",
    ),
    click.option(
        "--reduce",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="On DIFFERENT, write the failing op of an ONNX or Keras TARGET as a model, with its operands beside it.",
    ),
    click.option(
        "--strict",
        is_flag=True,
        help="EQUIVALENT only if the intermediate values agree, too; else INCONCLUSIVE.",
    ),
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        help="What TARGET is declared to compute in, to whose rounding it is then held (default: SOURCE's own).",
    ),
    click.option(
        "--train",
        type=click.IntRange(min=1, max=100),
        is_flag=False,
        flag_value=3,
        metavar="[STEPS]",
        help="Compare training, too (torch, keras): loss, gradients, updates, running statistics; 3 steps by default.",
    ),
)


def judge_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; their values arrive as `data`, `images`, `maps`, `runners`, `devices`, `timeout`, `memory`,
    `reduce`, `strict`, `precision`, `train`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@record
class Judging:
    """The values of these options."""

    data: str | None = None
    images: str | None = None
    maps: Sequence[str] = ()
    runners: Sequence[str] = ()
    devices: Sequence[str] = ()
    timeout: float = TIMEOUT
    memory: int | None = None
    reduce: Path | None = None
    strict: bool = False
    train: int | None = None
    precision: str | None = None

    def spelled(self) -> dict[str, Any]:
        """The options that decide the verdict, as `spell_command` takes them; defaults are None."""
        return {
            "data": self.data,
            "images": self.images,
            "map": list(self.maps),
            "runner": list(self.runners),
            "device": list(self.devices),
            "timeout": None if self.timeout == TIMEOUT else f"{self.timeout:g}",
            "memory": self.memory,
            "strict": self.strict or None,
            "train": self.train or None,
            "precision": self.precision,
        }

    def written(self) -> list[Path]:
        """The files that `--reduce` writes."""
        if self.reduce is None:
            return []
        return [
            self.reduce,
            *(self.reduce.with_name(f"{self.reduce.name}.{what}.npz") for what in ("inputs", "expected")),
        ]

    def opened(self) -> Data:
        """The user's inputs."""
        from isomorph import screen
        from isomorph.inputs import open_data

        return open_data(self.data, self.images, notify=lambda code: screen.note(f"calling your code: {code}"))

    def choose(self, source: Source, target: Source) -> tuple[RunnerChoice, RunnerChoice]:
        """The runner of each side."""
        from isomorph.runtimes import choose_runners

        return choose_runners(self.runners, self.devices, (source.runner, target.runner))

    def validate(
        self, subjects: tuple[Subject, Subject], runners: tuple[RunnerChoice, RunnerChoice], **more: Any
    ) -> Any:
        """`isomorph.validators.validate` with what the options say."""
        from isomorph.validators import validate

        memory = None if self.memory is None else self.memory * 1_000_000
        limits: dict[str, Any] = {"timeout": self.timeout, "memory": memory}
        limits |= {"reduce": self.reduce, "strict": self.strict, "train": self.train or 0}
        limits["precision"] = self.precision
        source, target = subjects
        return validate(source, target, maps=self.maps, runners=runners, **limits, **more)
