"""One file a framework; each runs inside a worker process and is imported nowhere else. `open_model(model, role=…,
device=…)` is the entry."""
