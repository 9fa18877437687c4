"""What happened inside: intermediate values of both sides, the ops to blame, and the smallest model that shows it.

taps       the values that both sides have, held to their own budgets
layouts    which axis order a value has
forced     each op of the target on the source's operands: error it makes, told from error it hands on
localize   from both, the culprits
witness    the values before an output that proves nothing by itself
layers     the error along the graph, for reports
whereabouts  which module, file and line an op comes from
reduce     the culprit's piece as a model of its own (`--reduce`); onnx_part and runners/keras_pieces.py cut it
piece      what runners are asked for pieces
"""
