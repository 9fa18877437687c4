"""Detection: boxes, regions of interest, convolutions whose taps move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np

from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType, operation
from isomorph.ir.ops.numerics import Array, in_single
from isomorph.ir.ops.select import Decides
from isomorph.ir.shapes import Dim

__all__ = ["MaxRoiPool", "NonMaxSuppression", "RoiAlign"]


@operation
class NonMaxSuppression(Decides, Op):
    """Boxes in the order of their scores, without those that overlap a better one of their class by more than a bound.

    Overlap is intersection over union. At most `max_output_boxes` of each class are taken, of those with a score above
    `score_threshold` where it is given.

    Shapes: boxes (N, B, 4), corners (y1, x1, y2, x2) or with `center_point_box` (x, y, width, height);
    scores (N, C, B); y (size, 3), int64: (batch, class, box).
    Differs from ONNX NonMaxSuppression-11: the bounds are attributes, the number of boxes is the attribute `size`.
    """

    size: Dim
    max_output_boxes: int
    iou_threshold: float
    score_threshold: float | None = None
    center_point_box: bool = False

    inputs: ClassVar[tuple[str, ...]] = ("boxes", "scores")

    def infer(self, boxes: TensorType, scores: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(boxes)
        self.require_same_dtype(boxes, scores)
        self.require(boxes.rank == scores.rank == 3, f"boxes {boxes} and scores {scores}")
        return (TensorType(DType.INT64, (self.size, 3)),)

    def evaluate(self, boxes: Array, scores: Array) -> Array:  # type: ignore[override]
        corners = boxes
        if self.center_point_box:
            half = boxes[..., 2:] / 2
            corners = np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], -1)
        low, high = np.minimum(corners[..., :2], corners[..., 2:]), np.maximum(corners[..., :2], corners[..., 2:])
        found = [
            (batch, index, box)
            for batch in range(scores.shape[0])
            for index in range(scores.shape[1])
            for box in self._chosen(low[batch], high[batch], scores[batch, index])
        ]
        return np.array(found, np.int64).reshape(-1, 3)

    def _chosen(self, low: Array, high: Array, scores: Array) -> Iterator[int]:
        area = np.prod(high - low, -1)
        order = np.argsort(-scores, kind="stable")
        if self.score_threshold is not None:
            order = order[scores[order] > self.score_threshold]
        taken: list[int] = []
        for box in order:
            if len(taken) >= self.max_output_boxes:
                break
            common = np.prod(
                np.clip(np.minimum(high[box], high[taken]) - np.maximum(low[box], low[taken]), 0, None), -1
            )
            union = area[box] + area[taken] - common
            overlap = np.where(union > 0, common / np.where(union > 0, union, 1), 0)
            if not (overlap > self.iou_threshold).any():
                taken.append(int(box))
        yield from taken


@operation
class RoiAlign(Op):
    """Each region of interest as a small image: the mean (or maximum) of points read from x by interpolation.

    A region is cut into output_size cells, and each of them read at `sampling_ratio` points along both axes (0: as many
    as input cells, rounded up). "half_pixel" moves regions by half a cell; "output_half_pixel" does not, and widens
    them to one cell. In mode "max" the largest of the weighted neighbours is taken, not of the interpolated points.

    Shapes: x (N, C, H, W); rois (R, 4), corners (x1, y1, x2, y2), times `spatial_scale`; batch_indices (R,) of
    integers; y (R, C, *output_size).
    See: ONNX RoiAlign-22; torchvision.ops.roi_align.
    """

    output_size: tuple[int, int]
    sampling_ratio: int = 0
    spatial_scale: float = 1.0
    mode: Literal["avg", "max"] = "avg"
    coordinates: Literal["half_pixel", "output_half_pixel"] = "half_pixel"

    inputs: ClassVar[tuple[str, ...]] = ("x", "rois", "batch_indices")

    def infer(self, x: TensorType, rois: TensorType, batch_indices: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        self.require_same_dtype(x, rois)
        self.require(x.rank == 4 and rois.rank == 2 and batch_indices.rank == 1, f"rois {rois} of {x}")
        self.require(batch_indices.dtype.is_integer, f"batch indices {batch_indices}")
        return (TensorType(x.dtype, (rois.shape[0], x.shape[1], *self.output_size)),)

    def evaluate(self, x: Array, rois: Array, batch_indices: Array) -> Array:  # type: ignore[override]
        def aligned(data: Array, boxes: Array) -> Array:
            made = [self._one(data[int(place)], box) for box, place in zip(boxes, batch_indices, strict=True)]
            empty = np.zeros((0, x.shape[1], *self.output_size), data.dtype)
            return np.stack(made).astype(data.dtype) if made else empty

        return in_single(aligned, x, rois)

    def _one(self, image: Array, box: Array) -> Array:
        offset = 0.5 if self.coordinates == "half_pixel" else 0.0
        x1, y1, x2, y2 = (box * np.asarray(self.spatial_scale, box.dtype) - offset).tolist()
        height, width = y2 - y1, x2 - x1
        if self.coordinates == "output_half_pixel":
            height, width = max(height, 1.0), max(width, 1.0)
        rows, columns = (
            self._points(start, length, count, size)
            for start, length, count, size in zip(
                (y1, x1), (height, width), self.output_size, image.shape[1:], strict=True
            )
        )
        if self.mode == "max":
            return self._maximum(image, rows, columns)
        mean = [weights.sum(1) / max(weights.shape[1], 1) for weights in (rows, columns)]
        return np.einsum("chw,ph,qw->cpq", image, mean[0], mean[1])  # type: ignore[no-any-return]

    def _points(self, start: float, length: float, count: int, size: int) -> Array:
        """Weights (count, samples, size) of the cells along an axis, for each point; 0 for points outside."""
        samples = self.sampling_ratio if self.sampling_ratio > 0 else int(np.ceil(length / count))
        weights = np.zeros((count, samples, size))
        for cell in range(count):
            for sample in range(samples):
                place = start + cell * length / count + (sample + 0.5) * length / count / samples
                if not -1.0 <= place <= size:
                    continue
                place = max(place, 0.0)
                low = min(int(place), size - 1)
                high = min(low + 1, size - 1)
                rest = place - low if low < size - 1 else 0.0
                weights[cell, sample, low] += 1 - rest
                weights[cell, sample, high] += rest
        return weights

    def _maximum(self, image: Array, rows: Array, columns: Array) -> Array:
        result = np.zeros((image.shape[0], *self.output_size))
        for row, column in np.ndindex(*self.output_size):
            best: Any = -np.inf
            for down in rows[row]:
                for across in columns[column]:
                    weights = np.outer(down, across)
                    points = (image * weights)[:, weights != 0]
                    best = np.maximum(best, points.max(-1) if points.size else np.zeros(image.shape[0]))
            result[:, row, column] = best
        return result


@operation
class MaxRoiPool(Op):
    """The maximum of x over the cells into which each region of interest is cut; 0 of an empty cell.

    Shapes: x (N, C, H, W); rois (R, 5), (batch, x1, y1, x2, y2), times `spatial_scale` and rounded, ends included;
    y (R, C, *pooled_shape). See: ONNX MaxRoiPool-22; torchvision.ops.roi_pool.
    """

    pooled_shape: tuple[int, int]
    spatial_scale: float = 1.0

    inputs: ClassVar[tuple[str, ...]] = ("x", "rois")

    def infer(self, x: TensorType, rois: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        self.require_same_dtype(x, rois)
        self.require(x.rank == 4 and rois.rank == 2, f"rois {rois} of {x}")
        return (TensorType(x.dtype, (rois.shape[0], x.shape[1], *self.pooled_shape)),)

    def evaluate(self, x: Array, rois: Array) -> Array:  # type: ignore[override]
        y = np.zeros((len(rois), x.shape[1], *self.pooled_shape), x.dtype)
        for region, roi in enumerate(rois.astype(np.float64)):
            scaled = roi[1:] * self.spatial_scale
            left, top, right, bottom = (np.sign(scaled) * np.floor(np.abs(scaled) + 0.5)).astype(int)  # halves outward
            rows, columns = (
                self._cells(start, max(end - start + 1, 1), count, size)
                for start, end, count, size in (
                    (top, bottom, self.pooled_shape[0], x.shape[2]),
                    (left, right, self.pooled_shape[1], x.shape[3]),
                )
            )
            for (row, down), (column, across) in (
                (first, second) for first in enumerate(rows) for second in enumerate(columns)
            ):
                part = x[int(roi[0]), :, slice(*down), slice(*across)]
                if part.size:
                    y[region, :, row, column] = part.max((1, 2))
        return y

    @staticmethod
    def _cells(start: int, length: int, count: int, size: int) -> list[tuple[int, int]]:
        step = np.float32(length) / np.float32(count)
        bounds = [
            (int(np.floor(np.float32(cell) * step)) + start, int(np.ceil(np.float32(cell + 1) * step)) + start)
            for cell in range(count)
        ]
        return [(min(max(begin, 0), size), min(max(end, 0), size)) for begin, end in bounds]
