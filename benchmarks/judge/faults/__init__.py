"""The kinds of fault: edits of a converted ONNX file, each as a converter could have made it."""

from judge.faults import axes, curves, numbers, sequences, weights, windows
from judge.faults.edits import FAULTS, Edit, Fault, Site

__all__ = ["FAULTS", "Edit", "Fault", "Site", "axes", "curves", "numbers", "sequences", "weights", "windows"]
