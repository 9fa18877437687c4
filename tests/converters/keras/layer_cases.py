"""Small Keras models, one for each layer and option, built, saved and run by Keras itself.

Run as a script in a process of its own: `python layer_cases.py FOLDER` writes NAME.keras (and NAME.h5 where it is asked
for) and NAME.npz with inputs `x0`, `x1`, … and outputs `y0`, `y1`, … Sizes are odd and distinct, weights random.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

# jax compiles every operation of every shape, which takes four times as long
os.environ.setdefault("KERAS_BACKEND", "tensorflow" if find_spec("tensorflow") else "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers as L  # noqa: N812
from keras import ops as K  # noqa: N812

IMAGE, SEQUENCE, VOLUME, VECTOR = (9, 7, 6), (11, 5), (5, 6, 7, 4), (5,)

ACTIVATIONS = [
    "relu",
    "relu6",
    "elu",
    "selu",
    "celu",
    "leaky_relu",
    "sigmoid",
    "hard_sigmoid",
    "tanh",
    "softplus",
    "softsign",
    "softmax",
    "log_softmax",
    "log_sigmoid",
    "silu",
    "hard_silu",
    "gelu",
    "mish",
    "exponential",
    "hard_tanh",
    "hard_shrink",
    "soft_shrink",
    "tanh_shrink",
    "squareplus",
    "linear",
]


def one(shape, build, **kwargs):
    """A model of one input."""
    x = keras.Input(shape, **kwargs)
    return keras.Model(x, build(x))


def two(shape, build, other=None):
    """A model of two inputs."""
    a, b = keras.Input(shape), keras.Input(other or shape)
    return keras.Model([a, b], build(a, b))


def conv_cases():
    for padding in ("same", "valid"):
        for strides, dilation, size in ((1, 1, 3), (2, 1, 3), (2, 1, 2), (3, 1, 5), (1, 2, 3), (1, 3, 2)):
            name = f"{padding}_s{strides}_d{dilation}_k{size}"
            options = {"strides": strides, "dilation_rate": dilation, "padding": padding}
            yield f"conv2d_{name}", one(IMAGE, L.Conv2D(4, (size, size + 1), activation="relu", **options))
            yield f"conv1d_{name}", one(SEQUENCE, L.Conv1D(4, size, **options))
            if dilation == 1 or strides == 1:
                yield f"conv2d_transpose_{name}", one(IMAGE, L.Conv2DTranspose(4, (size, size + 1), **options))
                yield f"conv1d_transpose_{name}", one(SEQUENCE, L.Conv1DTranspose(4, size, **options))
        yield f"conv3d_{padding}", one(VOLUME, L.Conv3D(3, (3, 2, 2), strides=(1, 2, 1), padding=padding))
        yield (
            f"conv3d_transpose_{padding}",
            one(VOLUME, L.Conv3DTranspose(3, (3, 2, 4), strides=(1, 2, 3), padding=padding)),
        )
        yield (
            f"depthwise_{padding}",
            one(IMAGE, L.DepthwiseConv2D((3, 2), strides=2, depth_multiplier=2, padding=padding)),
        )
        yield f"depthwise_dilated_{padding}", one(IMAGE, L.DepthwiseConv2D(3, dilation_rate=2, padding=padding))
        yield f"depthwise1d_{padding}", one(SEQUENCE, L.DepthwiseConv1D(3, depth_multiplier=3, padding=padding))
        yield (
            f"separable_{padding}",
            one(IMAGE, L.SeparableConv2D(5, 3, strides=2, depth_multiplier=2, padding=padding)),
        )
        yield f"separable1d_{padding}", one(SEQUENCE, L.SeparableConv1D(5, 3, padding=padding, activation="tanh"))
        yield (
            f"output_padding_{padding}",
            one(IMAGE, L.Conv2DTranspose(4, 3, strides=2, padding=padding, output_padding=1)),
        )
    yield "conv2d_groups", one(IMAGE, L.Conv2D(9, 3, groups=3, use_bias=False))
    yield "conv1d_causal", one(SEQUENCE, L.Conv1D(3, 3, padding="causal", dilation_rate=2))
    yield "conv2d_unknown_size", one((None, None, 6), L.Conv2D(4, 3, strides=2, padding="same"))


def pool_cases():
    for padding in ("same", "valid"):
        for kind in (L.MaxPooling2D, L.AveragePooling2D):
            yield f"{kind.__name__}_{padding}", one(IMAGE, kind((3, 2), strides=(2, 1), padding=padding))
        yield f"max1d_{padding}", one(SEQUENCE, L.MaxPooling1D(3, padding=padding))
        yield f"average1d_{padding}", one(SEQUENCE, L.AveragePooling1D(3, padding=padding))
        yield f"average3d_{padding}", one(VOLUME, L.AveragePooling3D(2, padding=padding))
        yield f"max3d_{padding}", one(VOLUME, L.MaxPooling3D((2, 3, 2), padding=padding))
    yield "adaptive_average", one(IMAGE, L.AdaptiveAveragePooling2D((4, 3)))
    yield "adaptive_max", one(IMAGE, L.AdaptiveMaxPooling2D((4, 3)))
    yield "adaptive1d", one(SEQUENCE, L.AdaptiveAveragePooling1D(4))
    for rank, shape in ((1, SEQUENCE), (2, IMAGE), (3, VOLUME)):
        for kind in (getattr(L, f"Global{which}Pooling{rank}D") for which in ("Average", "Max")):
            yield kind.__name__, one(shape, kind())
            yield f"{kind.__name__}_kept", one(shape, kind(keepdims=True))


def activation_cases():
    for name in ACTIVATIONS:
        yield f"activation_{name}", one(IMAGE, L.Activation(name))
    yield "relu_full", one(IMAGE, L.ReLU(max_value=0.8, negative_slope=0.1, threshold=0.2))
    yield "relu_threshold", one(IMAGE, L.ReLU(threshold=0.3))
    yield "relu_max", one(IMAGE, L.ReLU(max_value=0.5))
    yield "relu_slope", one(IMAGE, L.ReLU(negative_slope=0.2))
    yield "leaky", one(IMAGE, L.LeakyReLU(negative_slope=0.15))
    yield "elu_layer", one(IMAGE, L.ELU(alpha=0.7))
    yield "prelu", one(IMAGE, L.PReLU())
    yield "prelu_shared", one(IMAGE, L.PReLU(shared_axes=[1, 2]))
    yield "softmax_axis", one(IMAGE, L.Softmax(axis=1))
    yield "activation_object", one(VECTOR, L.Dense(4, activation=L.LeakyReLU(negative_slope=0.1)))
    yield "gelu_operation", one(IMAGE, K.gelu)
    yield "gelu_exact_operation", one(IMAGE, lambda x: K.gelu(x, approximate=False))
    for layer in (
        L.Dropout(0.3),
        L.SpatialDropout2D(0.3),
        L.GaussianNoise(0.1),
        L.GaussianDropout(0.2),
        L.ActivityRegularization(0.1),
    ):
        yield layer.name, one(IMAGE, layer)


def norm_cases():
    for scale, center in ((True, True), (False, True), (True, False), (False, False)):
        yield f"batch_norm_{scale}_{center}", one(IMAGE, L.BatchNormalization(scale=scale, center=center, epsilon=0.01))
        yield f"layer_norm_{scale}_{center}", one(IMAGE, L.LayerNormalization(scale=scale, center=center))
        yield f"group_norm_{scale}_{center}", one(IMAGE, L.GroupNormalization(3, scale=scale, center=center))
    yield "batch_norm_axis", one(IMAGE, L.BatchNormalization(axis=1))
    yield "layer_norm_axes", one(IMAGE, L.LayerNormalization(axis=[2, 3]))
    yield "layer_norm_first", one(IMAGE, L.LayerNormalization(axis=1))
    yield "instance_norm", one(IMAGE, L.GroupNormalization(-1))
    yield "unit_norm", one(IMAGE, L.UnitNormalization())
    yield "rms_norm", one(IMAGE, L.RMSNormalization())
    yield "rescaling", one(IMAGE, L.Rescaling(1 / 127.5, offset=-1))
    yield "rescaling_channels", one(IMAGE, L.Rescaling([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], offset=0.5))
    yield "normalization", one(IMAGE, L.Normalization(mean=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], variance=[1, 2, 3, 4, 5, 6]))
    yield "normalization_scalar", one(IMAGE, L.Normalization(axis=None, mean=0.4, variance=2.0))
    yield "normalization_inverse", one(IMAGE, L.Normalization(mean=0.4, variance=2.0, invert=True))
    adapted = L.Normalization()
    adapted.adapt(np.random.default_rng(1).normal(2.0, 3.0, (20, *IMAGE)))
    yield "normalization_adapted", one(IMAGE, adapted)


def products(x):
    """All scalar products of the steps of x (N, T, C): (N, T, T)."""
    return K.matmul(x, K.transpose(x, (0, 2, 1)))


def linear_cases():
    yield "dense", one(VECTOR, L.Dense(4, activation="sigmoid"))
    yield "dense_rank4", one(IMAGE, L.Dense(4, use_bias=False))
    yield "einsum_dense", one(SEQUENCE, L.EinsumDense("abc,cd->abd", output_shape=(None, 7), bias_axes="d"))
    yield "embedding", one((7,), L.Embedding(3, 5), dtype="int32")
    for name, options in {
        "tied": {},
        "untied": {"tie_weights": False},
        "capped": {"logit_soft_cap": 2.0},
        "wide": {"reverse_dtype": "float64"},
    }.items():
        table = L.ReversibleEmbedding(3, 5, embeddings_initializer="normal", **options)
        yield f"reversible_{name}", one((7,), lambda x, table=table: table(table(x) + 1.0, reverse=True), dtype="int32")
    yield "attention", one(SEQUENCE, lambda x: L.MultiHeadAttention(2, 3)(x, x))
    yield (
        "attention_causal",
        one(SEQUENCE, lambda x: L.MultiHeadAttention(2, 3, use_bias=False)(x, x, use_causal_mask=True)),
    )
    yield "attention_mask", one(SEQUENCE, lambda x: L.MultiHeadAttention(2, 3)(x, x, attention_mask=products(x) > 1))
    yield "attention_no_key", one(SEQUENCE, lambda x: L.MultiHeadAttention(2, 3)(x, x, attention_mask=products(x) > 99))
    yield "attention_cross", two(SEQUENCE, L.MultiHeadAttention(2, 3, output_shape=6), (4, 3))


def attention_cases():
    def scored(x):
        return L.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True, return_attention_scores=True)

    yield "attention_scores", one(SEQUENCE, scored)
    for name, options in {"": {}, "_causal": {"use_causal_mask": True}}.items():
        dropping = L.MultiHeadAttention(2, 3, dropout=0.1)
        yield (
            f"attention_dropout_no_key{name}",
            one(
                SEQUENCE,
                lambda x, dropping=dropping, options=options: dropping(x, x, attention_mask=products(x) > 2, **options),
            ),
        )
    dropping = L.MultiHeadAttention(2, 3, dropout=0.1)
    yield (
        "attention_dropout_any_length",
        one((None, 5), lambda x: dropping(x, x, attention_mask=products(x) > 2, use_causal_mask=True)),
    )
    yield (
        "attention_scores_mask_causal",
        one(
            SEQUENCE,
            lambda x: L.MultiHeadAttention(2, 3)(
                x, x, attention_mask=products(x) > 2, use_causal_mask=True, return_attention_scores=True
            ),
        ),
    )
    yield (
        "attention_scores_mask",
        one(
            SEQUENCE,
            lambda x: L.MultiHeadAttention(2, 3)(x, x, attention_mask=products(x) > 1, return_attention_scores=True),
        ),
    )
    for name, layer in (
        ("dot", L.Attention(use_scale=True)),
        ("concat", L.Attention(score_mode="concat", use_scale=True)),
        ("plain", L.Attention()),
        ("additive", L.AdditiveAttention()),
    ):
        yield f"attention_{name}", two(SEQUENCE, lambda a, b, layer=layer: layer([a, b]), (4, 5))
    yield "attention_dot_causal", two(SEQUENCE, lambda a, b: L.Attention()([a, b], use_causal_mask=True))


def operation_cases():
    rng = np.random.default_rng(5)
    kernel, depth = (rng.normal(size=shape).astype("float32") for shape in ((3, 2, 6, 4), (3, 2, 6, 2)))
    matrix = rng.normal(size=(6, 4)).astype("float32")
    images = {
        "conv": lambda x: K.conv(x, kernel, strides=2, padding="same"),
        "conv_dilated": lambda x: K.conv(x, kernel, dilation_rate=2),
        "depthwise": lambda x: K.depthwise_conv(x, depth, padding="same"),
        "pool": lambda x: K.max_pool(x, (3, 2), (2, 2), "same") + K.average_pool(x, (2, 3), (2, 2), "same"),
        "pad_images": lambda x: K.image.pad_images(x, 1, 2, target_height=13, target_width=11),
        "crop_images": lambda x: K.image.crop_images(x, 1, None, None, 2, target_height=5, target_width=3),
        "variance": lambda x: K.var(x, axis=(1, 2), keepdims=True) + K.std(x, axis=1, keepdims=True),
        "truth": lambda x: [K.any(x > 1, axis=-1), K.all(x > -1, axis=1), K.not_equal(x, 0.5)],
        "normalize": lambda x: [K.normalize(x), K.normalize(x, axis=1, order=1)],
        "normalization": lambda x: [K.layer_normalization(x, matrix[:, 0], matrix[:, 1]), K.rms_normalization(x)],
        "floor_divide": lambda x: [x // 0.3, K.cast(x * 9, "int32") // 4],
        "one_hot": lambda x: [
            K.one_hot(K.cast(x, "int32"), 3),
            K.one_hot(K.cast(x, "int32"), 4, axis=1, dtype="bool"),
        ],
        "axes": lambda x: [K.swapaxes(x, 1, -1), K.moveaxis(x, (1, 3), (2, 1))],
        "repeat": lambda x: [K.repeat(x, 3, axis=2), K.repeat(x, [2, 0, 1, 1, 3, 1], axis=-1)],
        "roll": lambda x: [K.roll(x, 2, axis=1), K.roll(x, (-1, 9), axis=(1, 2))],
        "tensordot": lambda x: [
            K.dot(x, matrix),
            K.tensordot(x, matrix.T, axes=((3,), (1,))),
            K.tensordot(x[:, :3], kernel, axes=((3, 1), (2, 0))),
            K.einsum("bhwc,cd->bdh", x, matrix),
        ],
        "glu": lambda x: [keras.activations.glu(x), keras.activations.glu(x[:, 1:], axis=1)],
    }
    if keras.backend.backend() != "jax":  # where Keras' own norm fails along an axis
        images["norms"] = lambda x: [K.norm(x, axis=-1), K.norm(x, ord=1, axis=2), K.norm(x, axis=(1, 2))]
    for name, build in images.items():
        yield f"operation_{name}", one(IMAGE, build)


def merge_cases():
    for kind in (L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum, L.Concatenate):
        yield f"merge_{kind.__name__}", two(IMAGE, lambda a, b, kind=kind: kind()([a, b]))
    yield "merge_ranks", two(IMAGE, lambda a, b: L.Add()([a, b]), (6,))
    yield "concatenate_axis", two(IMAGE, lambda a, b: L.Concatenate(axis=1)([a, b]), (4, 7, 6))
    yield "digits_kept", one(IMAGE, lambda x: K.log1p(K.exp(x)) + K.expm1(x) + K.erf(x) + K.erfc(x))
    yield "average_three", one(IMAGE, lambda x: L.Average()([x, K.exp(x), K.sin(x)]))
    yield "dot", two(SEQUENCE, lambda a, b: L.Dot(axes=(2, 1))([a, b]), (5, 3))
    yield "dot_vectors", two(VECTOR, lambda a, b: L.Dot(axes=1)([a, b]))
    yield "dot_normalized", two(VECTOR, lambda a, b: L.Dot(axes=1, normalize=True)([a, b]))
    yield (
        "arithmetic",
        two(IMAGE, lambda a, b: (2.0 - a * b + 1.0) / (K.square(b) + 3) + K.maximum(a, 0.2) - K.abs(b) ** 2),
    )
    yield "logic", two(IMAGE, lambda a, b: K.where(K.greater(a, b), a, 0.5))
    yield (
        "unary",
        one(
            IMAGE, lambda x: K.exp(-x) + K.sqrt(K.abs(x)) + K.cos(x) + K.rsqrt(K.square(x) + 1.0) + K.clip(x, -0.5, 0.3)
        ),
    )
    for name in ("mean", "sum", "max", "min", "prod"):
        yield f"reduce_{name}", one(IMAGE, lambda x, name=name: getattr(K, name)(x, axis=(1, -1), keepdims=True))
    yield "reduce_argmax", one(IMAGE, lambda x: K.argmax(x, axis=-1))


def shape_cases():
    yield "flatten", one(IMAGE, L.Flatten())
    yield "flatten_first", one(IMAGE, L.Flatten(data_format="channels_first"))
    yield "reshape", one(IMAGE, L.Reshape((7, -1, 3)))
    yield "permute", one(IMAGE, L.Permute((3, 1, 2)))
    yield "repeat", one(VECTOR, L.RepeatVector(4))
    yield "pad1d", one(SEQUENCE, L.ZeroPadding1D((1, 2)))
    yield "pad2d", one(IMAGE, L.ZeroPadding2D(((1, 2), (0, 3))))
    yield "pad3d", one(VOLUME, L.ZeroPadding3D((1, 2, 3)))
    yield "crop1d", one(SEQUENCE, L.Cropping1D((1, 2)))
    yield "crop2d", one(IMAGE, L.Cropping2D(((1, 2), (0, 3))))
    yield "center_crop", one(IMAGE, L.CenterCrop(4, 3))
    yield "random_flip", one(IMAGE, L.RandomFlip())
    yield "crop3d", one(VOLUME, L.Cropping3D(1))
    yield "up1d", one(SEQUENCE, L.UpSampling1D(3))
    yield "up2d", one(IMAGE, L.UpSampling2D((2, 3)))
    yield "up2d_bilinear", one(IMAGE, L.UpSampling2D((2, 3), interpolation="bilinear"))
    yield "up2d_bicubic", one(IMAGE, L.UpSampling2D(2, interpolation="bicubic"))
    yield "up3d", one(VOLUME, L.UpSampling3D(2))
    yield "resizing", one(IMAGE, L.Resizing(13, 4))
    yield "resizing_nearest", one(IMAGE, L.Resizing(13, 4, interpolation="nearest"))
    yield (
        "operations",
        one(IMAGE, lambda x: K.concatenate([K.transpose(x, (0, 2, 1, 3)), K.reshape(x, (-1, 7, 9, 6))], axis=-1)),
    )
    yield "slices", one(IMAGE, lambda x: x[:, 1:-1, ::2, 3])
    yield "slices_ellipsis", one(IMAGE, lambda x: x[..., None, -1])
    yield "split_stack", one(IMAGE, lambda x: K.stack(K.split(x, 3, axis=-1), axis=1))
    yield (
        "squeeze",
        one(IMAGE, lambda x: K.squeeze(K.expand_dims(x, 1), 1) + K.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, 1:]),
    )
    yield "take", one(IMAGE, lambda x: K.take(x, [2, 0, 1], axis=1))
    yield "time_dense", one(SEQUENCE, L.TimeDistributed(L.Dense(3, activation="softmax")))
    yield "time_conv", one((3, *IMAGE), L.TimeDistributed(L.Conv2D(4, 3, activation="relu")))
    yield "time_flatten", one((3, *IMAGE), L.TimeDistributed(L.Flatten()))


def with_states(cls, build, directions=1):
    """A model whose inputs are a sequence and the initial states of each direction."""
    x = keras.Input(SEQUENCE)
    states = [keras.Input((4,)) for _ in range(directions * (2 if cls is L.LSTM else 1))]
    given = states if len(states) > 1 else states[0]
    return keras.Model([x, *states], build(cls(4))(x, initial_state=given))


def recurrent_cases():
    for cls in (L.LSTM, L.GRU, L.SimpleRNN):
        name = cls.__name__.lower()
        yield f"{name}_last", one(SEQUENCE, cls(4))
        yield f"{name}_open", one((None, 5), cls(4, use_bias=False))
        yield f"{name}_all", one(SEQUENCE, cls(4, return_sequences=True, return_state=True, dropout=0.1))
        backwards = cls(4, return_sequences=True, return_state=True, go_backwards=True, activation="relu")
        yield f"{name}_backwards", one(SEQUENCE, backwards)
        yield f"{name}_states", with_states(cls, lambda layer: layer)
        yield f"{name}_both_states", with_states(cls, L.Bidirectional, 2)
        yield f"{name}_both", one(SEQUENCE, L.Bidirectional(cls(4, return_sequences=True, return_state=True)))
        for mode in ("concat", "sum", "ave", "mul", None):
            yield f"{name}_both_{mode}", one(SEQUENCE, L.Bidirectional(cls(4), merge_mode=mode))
        yield f"{name}_both_sum_all", one(SEQUENCE, L.Bidirectional(cls(4, return_sequences=True), merge_mode="sum"))
    yield "gru_reset_before", one(SEQUENCE, L.GRU(4, reset_after=False, recurrent_activation="hard_sigmoid"))
    yield "lstm_functions", one(SEQUENCE, L.LSTM(4, activation="softsign", recurrent_activation="elu"))
    yield "rnn_cell", one(SEQUENCE, L.RNN(L.SimpleRNNCell(3, activation="linear")))
    stacked = [L.LSTMCell(4), L.GRUCell(3), L.LSTMCell(2)]
    yield "rnn_cells", one(SEQUENCE, L.RNN(stacked, return_sequences=True, return_state=True))
    shared = L.LSTM(5, return_sequences=True)
    yield "lstm_shared", one(SEQUENCE, lambda x: shared(shared(x)))


def structure_cases():
    shared = L.Dense(5, name="shared")
    start = keras.Input((6, 5))
    inner = keras.Model(start, [L.BatchNormalization()(shared(start)), L.Dropout(0.1)(start)], name="inner")
    x = keras.Input((6, 5), name="sequence")
    first, second = inner(x)
    third, fourth = inner(shared(second))
    yield "shared_nested", keras.Model(x, {"u": L.Add()([first, third]), "v": fourth})
    block = keras.Sequential([L.Conv2D(4, 3, padding="same"), L.BatchNormalization(), L.ReLU()], name="block")
    block.trainable = False
    tail = [L.GlobalAveragePooling2D(), L.Dense(3, "softmax")]
    yield "sequential_nested", keras.Sequential([keras.Input(IMAGE), block, keras.Sequential([L.Conv2D(5, 1)]), *tail])
    yield "many_outputs", two(VECTOR, lambda a, b: [L.Dense(3)(a), a + b, b])
    a, b = keras.Input(VECTOR, name="alpha"), keras.Input(VECTOR, name="beta")
    named = keras.Model({"q": b, "p": a}, {"z": L.Dense(3)(b), "y": L.Dense(4)(a)}, name="named")
    yield "dicts_in_no_order", named
    u, v = keras.Input(VECTOR), keras.Input(VECTOR)
    inside = named({"p": u, "q": v})
    yield "dicts_nested", keras.Model([u, v], {"x": [inside["z"] * 2.0, inside["y"]], "b": (inside["y"],)})
    mixed = L.Conv2D(4, 3, dtype="mixed_bfloat16", kernel_initializer="ones")
    yield "mixed_precision", one(IMAGE, lambda x: L.Activation("relu", dtype="float32")(mixed(x)))


def randomize(model, seed):
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if (
            "count" in weight.path
            or "seed" in weight.path
            or "adapt" in weight.path
            or weight.path.endswith(("/mean", "/variance"))
        ):
            continue
        positive = weight.path.endswith(("variance", "gamma", "scale"))
        weight.assign(rng.uniform(0.5, 1.5, weight.shape) if positive else rng.normal(0, 0.5, weight.shape))


def main(folder):
    families = (
        conv_cases,
        pool_cases,
        activation_cases,
        norm_cases,
        linear_cases,
        attention_cases,
        operation_cases,
        merge_cases,
        shape_cases,
        recurrent_cases,
        structure_cases,
    )
    cases = [case for make in families for case in make()]
    rng = np.random.default_rng(7)
    for seed, (name, model) in enumerate(cases):
        randomize(model, seed)
        arrays = []
        for value in model.inputs:
            shape = [2, *(9 if size is None else size for size in value.shape[1:])]
            arrays.append(
                rng.integers(0, 3, shape).astype("int32")
                if "int" in value.dtype
                else rng.normal(size=shape).astype("float32")
            )
        struct = getattr(model, "_inputs_struct", None)
        taken = keras.tree.pack_sequence_as(struct, arrays) if isinstance(struct, dict) else arrays
        result = model(arrays[0] if taken is arrays and len(arrays) == 1 else taken, training=False)
        outputs = [np.asarray(value) for value in keras.tree.flatten(result)]
        model.save(folder / f"{name}.keras")
        if not any(not isinstance(layer, keras.layers.Layer) for layer in getattr(model, "operations", ())):
            model.save(folder / f"{name}.h5")
        given = {f"x{place}": array for place, array in enumerate(arrays)}
        np.savez(folder / f"{name}.npz", **given, **{f"y{place}": array for place, array in enumerate(outputs)})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
