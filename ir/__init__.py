"""The intermediate representation: what a model *is*, whatever framework it came from."""

from isomorph.ir import ops
from isomorph.ir.builder import Builder, Rewriter, rewrite
from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Graph, Model, Node, Region, State, Value
from isomorph.ir.layout import Layout, LayoutRule
from isomorph.ir.op import OPS, OPSET, Op, OpaqueType, TensorType
from isomorph.ir.origin import Origin, Scope, ScopeEntry
from isomorph.ir.params import Parameter
from isomorph.ir.shapes import Dim, DimRange, Shape, Sym
from isomorph.ir.tensors import ArrayTensor, DerivedTensor, MappedTensor, TensorSource

__all__ = [
    "OPS",
    "OPSET",
    "ArrayTensor",
    "Builder",
    "DType",
    "DerivedTensor",
    "Dim",
    "DimRange",
    "Graph",
    "Layout",
    "LayoutRule",
    "MappedTensor",
    "Model",
    "Node",
    "Op",
    "OpaqueType",
    "Origin",
    "Parameter",
    "Region",
    "Rewriter",
    "Scope",
    "ScopeEntry",
    "Shape",
    "State",
    "Sym",
    "TensorSource",
    "TensorType",
    "Value",
    "ops",
    "rewrite",
]
