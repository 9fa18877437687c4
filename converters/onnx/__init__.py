"""ONNX: reader and writer. See docs/formats/onnx.md."""
