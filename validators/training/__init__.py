"""Whether two models train alike (`--train`).

exercise     what the judge asks of a runner that can train, and what it gets back
weights      which weight of the target is which of the source
trial        loss, gradients, updated weights, running statistics, each held to its budget
statistics   how running statistics differ, in words
"""
