"""The public functions. Each takes what the command line takes: a path, `zoo:NAME`, `python:MODULE:CALLABLE`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isomorph.converters import convert as pipeline
from isomorph.converters.convert import Conversion, LayoutChoice, Progress
from isomorph.inputs import InputShape, read_dynamic, read_inputs, spell_inputs
from isomorph.ir import Model
from isomorph.sources import locate, refuse_dynamic

if TYPE_CHECKING:
    from isomorph.comparison import Form
    from isomorph.converters.onnx.form import OnnxForm
    from isomorph.ir.diff import Difference
    from isomorph.validators import Report

__all__ = ["capture", "convert", "diff", "load", "save", "validate"]


def load(
    source: str | Path,
    *,
    format: str | None = None,
    inputs: Mapping[str, InputShape] | None = None,
    arch: str | None = None,
    prefix: str | None = None,
) -> Model:
    """Read a model. A file is parsed: nothing of it is executed and no framework is imported.

    format  its format where content and suffix do not tell
    inputs  shapes that override the source's, e.g. {"x": ("N", 3, 224, 224)} or {"x": "N,3,224,224:float32"}
    arch    for a checkpoint: "package.module:callable(num_classes=10)", your own code, which is imported and called
    prefix  where in the checkpoint the weights are, if their names do not tell
    Raises: UsageError, WeightsError, ModelError.
    """
    return locate(source, format=format).joined(arch, prefix).model(read_inputs(inputs))


def save(
    model: Model,
    path: str | Path,
    *,
    format: str | None = None,
    opset: int | None = None,
    layout: LayoutChoice = "keep",
    simplify: bool = False,
    fold_batch_norm: bool = False,
    onnx: OnnxForm | None = None,
    force: bool = False,
) -> Model:
    """Write a model in the format that `path` or `format` names; returns the model as it was written.

    layout           "keep": inputs and outputs keep their axis order; "native": they may take the target's
    simplify         fewer nodes also within a format; between formats it is always done
    fold_batch_norm  into the convolution or dense layer before it, which leaves one layer instead of two
    onnx             how a file of ONNX is written where there is a choice: isomorph.OnnxForm(quantized="qoperator")
    force            replace `path` if it exists
    Raises: TargetExistsError, UnsupportedError that lists everything the format cannot express. Then no file is left.
    """
    return pipeline.save(
        model,
        path,
        format=format,
        opset=opset,
        layout=layout,
        simplify=simplify,
        fold_batch_norm=fold_batch_norm,
        onnx=onnx,
        force=force,
    )


def convert(
    source: str | Path | Model,
    target: str | Path,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    inputs: Mapping[str, InputShape] | None = None,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    arch: str | None = None,
    prefix: str | None = None,
    opset: int | None = None,
    layout: LayoutChoice = "keep",
    simplify: bool = False,
    fold_batch_norm: bool = False,
    onnx: OnnxForm | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Convert a model to another format. Nothing of a model file is run; see `validate` for the verdict.

    dynamic          sizes of a captured module that vary, e.g. {"x": {0: "N", 1: "S:2..512"}}
    arch             for a checkpoint: your own code that makes the module, as for `load`
    simplify         fewer nodes also within a format; between formats it is always done (see `changes` of the result)
    fold_batch_norm  into the convolution or dense layer before it, which leaves one layer instead of two
    onnx             how a file of ONNX is written where there is a choice: isomorph.OnnxForm(quantized="qoperator")
    Raises: UsageError, TargetExistsError, ModelError. Then no file is left.
    """
    shapes = read_inputs(inputs)
    if not isinstance(source, Model):
        located = locate(source, format=source_format, progress=progress).joined(arch, prefix)
        axes = read_dynamic(dynamic)
        refuse_dynamic(located.given, None if located.calls else axes)
        source = located.path if located.path is not None and not located.calls else located.model(shapes, axes)
    return pipeline.convert(
        source,
        target,
        source_format=source_format,
        target_format=target_format,
        inputs=shapes,
        opset=opset,
        layout=layout,
        simplify=simplify,
        fold_batch_norm=fold_batch_norm,
        onnx=onnx,
        force=force,
        progress=progress,
    )


def capture(
    module: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    name: str | None = None,
) -> Model:
    """Capture a live `torch.nn.Module` through `torch.export.export`, without decompositions.

    dynamic_shapes  as torch.export.export takes it, e.g. {"x": {0: torch.export.Dim("N")}}
    Raises: UnsupportedError that lists every operation without a rule, with the module and the source line.
    """
    from isomorph.converters.torch.capture import capture as capture_module

    return capture_module(module, args, kwargs, dynamic_shapes=dynamic_shapes, name=name)


def diff(
    a: str | Path | Model,
    b: str | Path | Model,
    *,
    form: Form = "auto",
    formats: tuple[str | None, str | None] = (None, None),
    inputs: Mapping[str, InputShape] | None = None,
    progress: Progress | None = None,
) -> Difference:
    """What differs from model a to model b: interface, nodes, attributes, weights, names. Nothing is run.

    form     "written": both as they were read; "normal": both simplified alike, so that what is only spelt otherwise
             disappears; "auto": normal if the formats differ. Exact steps only, see converters/normal.py
    formats  of a and of b, where content and suffix do not tell
    inputs   shapes of inputs that a source itself does not describe (TorchScript), as for `convert`
    A checkpoint has weights only: then weights alone are compared. `difference.same` and `.identical` are the answer.
    Raises: UsageError, ModelError.
    """
    from isomorph.comparison import compare

    sides = [
        locate(given, format=format, progress=progress) if isinstance(given, str | Path) else given
        for given, format in zip((a, b), formats, strict=True)
    ]
    return compare(sides[0], sides[1], form=form, inputs=read_inputs(inputs), progress=progress)


def validate(
    source: str | Path,
    target: str | Path,
    *,
    data: str | Path | Mapping[str, np.ndarray] | Sequence[Mapping[str, np.ndarray]] | None = None,
    images: str | None = None,
    maps: Sequence[str] = (),
    runners: Sequence[str] = (),
    devices: Sequence[str] = (),
    timeout: float = 600.0,
    memory: int | None = None,
    reduce: str | Path | None = None,
    certificate: str | Path | None = None,
    strict: bool = False,
    train: bool | int = False,
    precision: str | None = None,
    inputs: Mapping[str, InputShape] | None = None,
    arch: str | None = None,
    prefix: str | None = None,
    seed: int = 0,
    source_format: str | None = None,
    target_format: str | None = None,
) -> Report:
    """Run both models, each in a process of its own, and say whether they compute the same.

    data     real inputs by name, several such sets, or what `--data` takes; judged beside the generated ones
    images   how a folder of images becomes inputs, as `--images` takes it: "range=0..1,size=224x224"
    maps     pairs of inputs or outputs that names do not tell: "x=serving_default_x[0,2,3,1]"
    runners  what runs a side and where: "keras:torch", "target=onnxruntime=/envs/old/bin/python"
    devices  "cuda" for both sides, "target=cuda:1" for one
    timeout  seconds that a runner may take for one request
    memory   megabytes that each runner may allocate
    reduce   on DIFFERENT, where to write the failing op of an ONNX or Keras target as a model, its operands beside it
    certificate  where to write one, which `isomorph verify` replays with the target's runtime alone
    strict   EQUIVALENT only if the intermediate values that both sides have agree, too
    train    compare so many steps of training, too (True: 3); torch and keras can
    precision  what the target is declared to compute in ("float32", "tf32", "fp16", "bf16", "int8"), to whose rounding
             it is then held; by default the source's own
    inputs   shapes of inputs that the source itself does not describe (TorchScript), as for `convert`
    arch     for a checkpoint as the source: your own code that makes the module, as for `load`
    Raises: UsageError; RunnerError if a runtime could not be asked. `report.verdict` is the answer.
    """
    from isomorph.judge_options import Judging
    from isomorph.report_options import spell_command

    named = data is None or isinstance(data, str | Path)
    judging = Judging(
        data=str(data) if named and data is not None else None,
        images=images,
        maps=maps,
        runners=runners,
        devices=devices,
        timeout=timeout,
        memory=memory,
        reduce=Path(reduce) if reduce is not None else None,
        strict=strict,
        train=3 if train is True else int(train),
        precision=precision,
    )
    sides = locate(source, format=source_format).joined(arch, prefix), locate(target, format=target_format)
    chosen = judging.choose(*sides)
    shapes = read_inputs(inputs)
    report: Report = judging.validate(
        (sides[0].subject(shapes, chosen[0]), sides[1].subject(shapes, chosen[1])),
        chosen,
        data=judging.opened() if named else data,
        seed=seed,
        certificate=Path(certificate) if certificate is not None else None,
    )
    if named:  # arrays of the caller's have no spelling
        told = {"input": spell_inputs(inputs), "arch": arch, "prefix": prefix, "seed": seed or None}
        report.replay = spell_command(str(source), str(target), {**judging.spelled(), **told})
    return report
