"""Save two Keras networks with the layers whose conventions differ most: `python keras_networks.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers


def _varied(model: keras.Model) -> keras.Model:
    """Noise on what starts as zeros or ones, so that a fault there shows."""
    rng = np.random.default_rng(5)
    for variable in model.weights:
        value = np.asarray(variable)
        if value.size > 1 and value.std() == 0:
            variable.assign(value + rng.uniform(0.05, 0.5, value.shape))
    return model


def main(folder: Path) -> None:
    keras.utils.set_random_seed(1)
    words = keras.Input((11,), dtype="int32", name="words")
    x = layers.Embedding(30, 8)(words)
    x = layers.Bidirectional(layers.LSTM(7, return_sequences=True))(x)
    x = layers.LayerNormalization(epsilon=1e-3)(layers.GRU(6)(x))
    _varied(keras.Model(words, layers.Dense(4, activation="softmax")(x))).save(folder / "keras-lstm.keras")
    image = keras.Input((20, 18, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.BatchNormalization()(layers.SeparableConv2D(12, 3, padding="same")(x))
    x = layers.LeakyReLU(negative_slope=0.3)(layers.Add()([layers.Conv2D(12, 1)(x), x]))
    x = layers.Flatten()(layers.AveragePooling2D(3, 2, padding="same")(x))
    _varied(keras.Model(image, layers.Dense(5)(x))).save(folder / "keras-separable.keras")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
