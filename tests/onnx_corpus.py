"""Small ONNX models of every kind of thing that a file can hold, in a fixed order.

Quantized and plain layers, operators of com.microsoft and of opset 6, control flow, functions, strings, sequences,
optionals, sparse tensors, external data.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from contrib_cases import CONTRIB
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Original", "corpus"]

_ROOT = Path(__file__).parents[1]
_DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
_CASES = """
    adam_multiple ai_onnx_ml_tree_ensemble_set_membership attention_4d_with_past_and_present_expanded
    averagepool_2d_same_upper batchnorm_example_training_mode blackmanwindow_expanded cast_FLOAT16_to_INT4
    center_crop_pad_crop clip_expanded col2im constantofshape_float_ones conv_with_strides_padding
    convinteger_with_padding convtranspose_output_shape dequantizelinear_blocked dequantizelinear_e4m3fn dft
    einsum_batch_matmul expand_dim_changed gather_elements_1 gathernd_example_float32 gelu_tanh_1_expanded
    gemm_all_attributes gridsample_bicubic group_normalization_example_expanded gru_with_initial_bias identity_opt
    if if_opt if_seq image_decoder_decode_jpeg_rgb label_encoder_string_int layer_normalization_4d_axis1_expanded
    loop11 loop13_seq loop16_seq_none lstm_with_peepholes matmulinteger maxpool_2d_dilations mvn_expanded
    nonmaxsuppression_limit_output_size optional_get_element_optional_sequence pad qlinearconv
    qlinearmatmul_2D_uint8_float32 quantizelinear_int4 range_float_type_positive_delta_expanded
    reduce_l2_keep_dims_random_expanded regex_full_match_basic reshape_extended_dims
    resize_downsample_scales_linear_antialias resize_upsample_sizes_cubic reversesequence_batch
    roialign_aligned_true rotary_embedding_3d_input_expanded scan9_sum scan_sum
    scatter_elements_with_reduction_max sequence_insert_at_back sequence_map_add_1_sequence_1_tensor_expanded
    slice softmax_axis_1_expanded split_to_sequence_1 split_variable_parts_default_axis stft_with_window
    string_concat string_split_basic tfidfvectorizer_tf_batch_uniandbigrams_skip5 top_k training_dropout_mask
    tril_neg unique_sorted_with_axis_3d
""".split()  # noqa: SIM905

_OPSET_6 = """
    operator/test_operator_add_broadcast operator/test_operator_basic operator/test_operator_conv
    operator/test_operator_pad operator/test_operator_pow operator/test_operator_view
    converted/test_BatchNorm2d_eval converted/test_Embedding converted/test_GLU converted/test_PixelShuffle
    converted/test_PReLU_2d_multiparam converted/test_softmax_functional_dim3
""".split()  # noqa: SIM905
_CONTRIB = """
    attention_mask_causal embed_norm_positions fused_conv_sum fused_matmul_both group_query_packed group_query_rotary
    matmul_4_bits_ragged matmul_4_bits_zeros multi_head_cache qgemm qlinear_average qlinear_concat rotary_part
    skip_norm_sum
""".split()  # noqa: SIM905


@dataclass(frozen=True, slots=True)
class Original:
    """A model that is read without an error, and the files that lie beside it."""

    name: str
    data: bytes
    beside: tuple[tuple[str, bytes], ...] = ()


@cache
def corpus() -> tuple[Original, ...]:
    """The originals, small ones only, in a fixed order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        wanted = {f"test_{name}" for name in _CASES}
        cases = {case.name: case.model.SerializeToString() for case in collect_testcases(None) if case.name in wanted}
    found = [Original(name, cases[name]) for name in sorted(cases)]
    found += [
        Original(name, (_DATA / "light" / f"light_{name}.onnx").read_bytes()) for name in ("bvlc_alexnet", "squeezenet")
    ]
    found += [Original(f"opset 6: {name}", _of_opset_6(name)) for name in _OPSET_6]
    found += [Original(case.id, case.model().SerializeToString()) for case in CONTRIB if case.id in _CONTRIB]
    found.append(Original("digits-cnn", (_ROOT / "zoo" / "digits" / "digits-cnn.onnx").read_bytes()))
    return (*found, _functions(), _sparse(), _external())


def _of_opset_6(name: str) -> bytes:
    kind, _, folder = name.partition("/")
    return (_DATA / f"pytorch-{kind}" / folder / "model.onnx").read_bytes()


def _model(nodes: list[onnx.NodeProto], tensors: list[TensorProto], **more: Any) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    graph = helper.make_graph(nodes, "g", [x], [helper.make_value_info("y", onnx.TypeProto())], tensors)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("my", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **more)


def _functions() -> Original:
    """A function that calls a function, with an attribute that is handed on."""
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("my", 1)]
    inner = helper.make_node("Elu", ["a"], ["b"])
    inner.attribute.add(name="alpha", ref_attr_name="alpha", type=onnx.AttributeProto.FLOAT)
    outer = helper.make_node("Inner", ["a"], ["t"], domain="my")
    outer.attribute.add(name="alpha", ref_attr_name="alpha", type=onnx.AttributeProto.FLOAT)
    negated = helper.make_node("Neg", ["t"], ["c"])
    functions = [
        helper.make_function("my", "Inner", ["a"], ["b"], [inner], opsets, ["alpha"]),
        helper.make_function("my", "Outer", ["a"], ["c"], [outer, negated], opsets, ["alpha"]),
    ]
    call = helper.make_node("Outer", ["x"], ["y"], domain="my", alpha=0.5)
    return Original("functions", _model([call], [], functions=functions).SerializeToString())


def _sparse() -> Original:
    values = numpy_helper.from_array(np.array([1, 2, 3], np.float32), "w")
    indices = numpy_helper.from_array(np.array([0, 5, 11], np.int64), "w.indices")
    model = _model([helper.make_node("MatMul", ["x", "w"], ["y"])], [])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 3]))
    return Original("sparse", model.SerializeToString())


def _external() -> Original:
    """A dense weight and a packed int4 one beside the model, at offsets."""
    weight = TensorProto(name="w", dims=[4, 3], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    codes = TensorProto(name="q", dims=[3, 2], data_type=TensorProto.INT4, data_location=TensorProto.EXTERNAL)
    for tensor, offset, length in ((weight, 64, 48), (codes, 128, 3)):
        for key, text in {"location": "w.bin", "offset": str(offset), "length": str(length)}.items():
            tensor.external_data.add(key=key, value=text)
    scale = numpy_helper.from_array(np.array(0.5, np.float32), "s")
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["d"]),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("MatMul", ["h", "d"], ["y"]),
    ]
    data = _model(nodes, [weight, codes, scale]).SerializeToString()
    return Original("external data", data, (("w.bin", bytes(range(256))),))
