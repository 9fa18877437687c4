"""Attention in ONNX is written decomposed: onnxruntime's CPU kernels for MatMul and Softmax are at least as fast."""
