"""Models run in processes of their own.

process    the judge's side: a worker is started, confined, asked and ended
onnx_guest values inside an ONNX model that another interpreter runs
protocol   what is said over the two pipes; a guest in another interpreter speaks it too (validators/guest)
worker     the program that runs there
"""
