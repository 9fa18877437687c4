"""Loads every .keras file of a folder with Keras itself and runs it: python load_models.py FOLDER [again].

NAME.npz holds x0, x1, ...; writes NAME.out.npz with y0, y1, ... and report.json with what Keras says of each model.
With `again`, Keras also saves each model itself, and what it saved is loaded and run.
"""

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np


def arrays(values: Any) -> list[Any]:
    """The outputs of a model in NumPy; bfloat16 as float32."""
    listed = values if isinstance(values, (list, tuple)) else [values]
    narrow = [keras.ops.cast(value, "float32") if "bfloat16" in str(value.dtype) else value for value in listed]
    return [keras.ops.convert_to_numpy(value) for value in narrow]


def examine(path: Path, *, again: bool) -> dict[str, Any]:
    """Run the model, and if asked save it with Keras and run it again."""
    model = keras.saving.load_model(path)
    data = np.load(path.with_suffix(".npz"))
    given = [data[f"x{place}"] for place in range(len(data.files))]
    made = model(given if len(given) > 1 else given[0], training=False)
    found = arrays(made)
    np.savez(path.with_suffix(".out.npz"), **{f"y{place}": value for place, value in enumerate(found)})
    second = found
    if again:
        saved = path.with_name(f"again-{path.name}")
        model.save(saved)
        second = arrays(keras.saving.load_model(saved)(given if len(given) > 1 else given[0], training=False))
        saved.unlink()
    return {
        "operations": [[type(entry).__name__, entry.name] for entry in model.operations],
        "inputs": [value.name for value in model.inputs],
        "outputs": list(model.output_names),
        "batches": [value.shape[0] if value.shape else None for value in model.outputs],
        "dtypes": [str(keras.backend.standardize_dtype(value.dtype)) for value in model.outputs],
        "trainable": sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
        "weights": sum(int(np.prod(weight.shape)) for weight in model.weights),
        "same_again": all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found, second, strict=True)),
    }


def main(folder: Path, *, again: bool) -> None:
    report = {}
    for path in sorted(folder.glob("*.keras")):
        try:
            report[path.stem] = examine(path, again=again)
        except Exception as error:
            report[path.stem] = {"error": f"{type(error).__name__}: {error}"}
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), again="again" in sys.argv[2:])
