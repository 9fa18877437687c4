"""Fourier transforms and windows of PyTorch models, against eager; and through ONNX in onnxruntime."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.requires("torch")
torch = pytest.importorskip("torch")
nn = torch.nn


def randn(*shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def shown(value: Any) -> Any:
    """Complex results as pairs."""
    if isinstance(value, list | tuple):
        return tuple(shown(each) for each in value)
    return torch.view_as_real(value.resolve_conj()) if value.is_complex() else value


NORMS = (None, "ortho", "forward", "backward")
X = randn(2, 6, 5)
HALF = torch.fft.rfft

FUNCTIONS = {
    "fft": lambda x: [torch.fft.fft(x, norm=norm) for norm in NORMS],
    "fft_dim": lambda x: torch.fft.fft(x, dim=1),
    "fft_n": lambda x: [torch.fft.fft(x, n=n, dim=dim) for n in (3, 8) for dim in (0, -2)],
    "fft_of_complex": lambda x: torch.fft.fft(torch.fft.fft(x, dim=-1), dim=-2).real,
    "ifft": lambda x: [torch.fft.ifft(x, norm=norm) for norm in NORMS],
    "ifft_of_fft": lambda x: torch.fft.ifft(torch.fft.fft(x)).real,
    "rfft": lambda x: [torch.fft.rfft(x, norm=norm) for norm in NORMS],
    "rfft_n": lambda x: [torch.fft.rfft(x, n, 1) for n in (3, 4, 9)],
    "irfft": lambda x: [torch.fft.irfft(HALF(x), norm=norm) for norm in NORMS],
    "irfft_n": lambda x: [torch.fft.irfft(HALF(x), n) for n in (2, 3, 5, 6, 8)],
    "irfft_dim": lambda x: torch.fft.irfft(HALF(x), dim=1),
    "irfft_of_real": torch.fft.irfft,
    "hfft": lambda x: [torch.fft.hfft(HALF(x), norm=norm) for norm in NORMS],
    "ihfft": lambda x: [torch.fft.ihfft(x, norm=norm) for norm in NORMS],
    "fft2": lambda x: [torch.fft.fft2(x), torch.fft.ifft2(x, norm="ortho"), torch.fft.fft2(x, (4, 7))],
    "rfft2": lambda x: [torch.fft.rfft2(x), torch.fft.rfft2(x, dim=(0, 1), norm="ortho")],
    "irfft2": lambda x: [torch.fft.irfft2(torch.fft.rfft2(x)), torch.fft.irfft2(torch.fft.rfft2(x), s=(6, 5))],
    "fftn": lambda x: [torch.fft.fftn(x), torch.fft.fftn(x, dim=(0, 2)), torch.fft.ifftn(x, s=(3, 4))],
    "rfftn": lambda x: [torch.fft.rfftn(x), torch.fft.irfftn(torch.fft.rfftn(x)), torch.fft.rfftn(x, dim=(1,))],
    "irfftn": lambda x: torch.fft.irfftn(torch.fft.rfftn(x, norm="forward"), s=x.shape, norm="forward"),
    "shift": lambda x: [torch.fft.fftshift(x), torch.fft.ifftshift(x, dim=-1), torch.fft.fftshift(torch.fft.fft(x))],
    "frequencies": lambda x: x + torch.fft.fftfreq(5, 0.5) + torch.fft.rfftfreq(8, 2.0),
    "double": lambda x: torch.fft.rfft(x.double()),
    "integers": lambda x: torch.fft.fft((x * 3).to(torch.int32)),
    "convolution": lambda x: torch.fft.irfft(torch.fft.rfft(x, 16) * torch.fft.rfft(x.flip(0), 16), 16)[..., :5],
    "abs_angle": lambda x: (torch.fft.fft(x).abs(), torch.fft.rfft(x)[..., 1:].angle()),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_transform(name: str, convert: Any, apply: Any) -> None:
    convert(apply(lambda x: shown(FUNCTIONS[name](x))), X)


def test_backend_functions(convert: Any, apply: Any) -> None:
    """What torch.fft is decomposed to."""
    aten = torch.ops.aten

    def functions(x: Any) -> Any:
        z = torch.complex(x, x.flip(1))
        whole = [aten._fft_c2c(z, [1, 2], code, forward) for code in (0, 1, 2) for forward in (True, False)]
        real = [aten._fft_r2c(x, [1, 2], code, half) for code in (0, 2) for half in (True, False)]
        return shown(whole + real + [aten._fft_c2r(z, [1, 2], code, 9) for code in (0, 1, 2)])

    convert(apply(functions), X)


WAVE = randn(2, 64)
HANN = torch.hann_window(16)
STFTS = {
    "plain": {"n_fft": 16},
    "window": {"n_fft": 16, "hop_length": 5, "window": HANN},
    "short_window": {"n_fft": 16, "hop_length": 3, "win_length": 11, "window": torch.hamming_window(11)},
    "no_window": {"n_fft": 10, "win_length": 7},
    "not_centered": {"n_fft": 16, "hop_length": 8, "window": HANN, "center": False},
    "normalized": {"n_fft": 16, "window": HANN, "normalized": True},
    "two_sided": {"n_fft": 9, "onesided": False},
    "constant_pad": {"n_fft": 16, "pad_mode": "constant"},
}


@pytest.mark.parametrize("name", STFTS)
def test_stft(name: str, convert: Any, apply: Any) -> None:
    options = STFTS[name]

    def functions(x: Any) -> Any:
        z = torch.stft(x, **options, return_complex=True)
        return z.abs() ** 2, torch.view_as_real(z), torch.stft(x[0], **options, return_complex=True).abs()

    convert(apply(functions), WAVE)


def test_stft_in_pairs_and_of_complex_numbers(convert: Any, apply: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        convert(apply(lambda x: torch.stft(x, 16, return_complex=False)), WAVE)
    whole = lambda x: torch.stft(torch.complex(x, -x.flip(0)), 16, onesided=False, return_complex=True)  # noqa: E731
    convert(apply(lambda x: shown(whole(x))), WAVE)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("length", [None, 60])
def test_istft_undoes_stft(normalized: bool, length: int | None, convert: Any, apply: Any) -> None:
    def back(x: Any) -> Any:
        z = torch.stft(x, 16, 4, 12, torch.hann_window(12), normalized=normalized, return_complex=True)
        return torch.istft(z * 2, 16, 4, 12, torch.hann_window(12), normalized=normalized, length=length)

    convert(apply(back), WAVE)
    convert(apply(lambda x: back(x[0])), WAVE)


def test_windows(convert: Any, apply: Any) -> None:
    def windows(x: Any) -> Any:
        made = [
            torch.hann_window(9), torch.hann_window(9, periodic=False), torch.hamming_window(9, True, 0.6, 0.4),
            torch.blackman_window(9), torch.bartlett_window(9), torch.kaiser_window(9, True, 8.0),
            torch.hamming_window(9, periodic=False, dtype=torch.float64), torch.hann_window(1), torch.hann_window(0),
        ]  # fmt: skip
        return [each + x for each in made[:-1]] + [made[-1]]

    convert(apply(windows), torch.zeros(1))


class Spectrogram(nn.Module):
    """torchaudio's mel spectrogram, in log."""

    def __init__(self, n_fft: int = 400, hop: int = 160, mels: int = 40) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft))
        self.register_buffer("mel", randn(n_fft // 2 + 1, mels).abs())

    def forward(self, x: Any) -> Any:
        z = torch.stft(x, self.n_fft, self.hop, window=self.window, return_complex=True)
        power = z.abs().pow(2.0)
        return torch.log10((power.transpose(1, 2) @ self.mel).clamp(min=1e-10))


class FNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.dense = nn.LayerNorm(24), nn.Linear(24, 24)

    def forward(self, x: Any) -> Any:
        mixed = torch.fft.fftn(x, dim=(1, 2)).real
        return self.dense(self.norm(x + mixed))


class GlobalFilter(nn.Module):
    """GFNet's layer: a complex weight times the spectrum of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(randn(8, 5, 6, 2) * 0.1)

    def forward(self, x: Any) -> Any:
        z = torch.fft.rfft2(x, dim=(1, 2), norm="ortho")
        z = z * torch.view_as_complex(self.weight)
        return torch.fft.irfft2(z, s=(8, 8), dim=(1, 2), norm="ortho")


MODELS = {
    "spectrogram": (Spectrogram, (2, 3200), 16),
    "long_spectrogram": (lambda: Spectrogram(1024, 256), (2, 8192), 16),
    "fnet": (FNet, (2, 10, 24), 12),
    "filter": (GlobalFilter, (2, 8, 8, 6), 28),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch", [None, "batch"])
def test_model_in_onnxruntime(name: str, batch: str | None, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from isomorph.converters.convert import convert as to_file

    make, shape, most = MODELS[name]
    module, x = make().eval(), randn(*shape)
    dims = None if batch is None else ({0: torch.export.Dim(batch)},)
    torch.export.save(torch.export.export(module, (x,), dynamic_shapes=dims), tmp_path / "m.pt2")
    to_file(tmp_path / "m.pt2", tmp_path / "m.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", options, providers=["CPUExecutionProvider"])
    for given in (x, randn(*(shape if batch is None else (3, *shape[1:])))):
        (found,) = session.run(None, {session.get_inputs()[0].name: given.numpy()})
        wanted = module.double()(given.double()).detach().numpy()
        assert np.abs(found - wanted).max() < 2e-5 * max(1, np.abs(wanted).max())
        module.float()
    import onnx

    assert len(onnx.load(tmp_path / "m.onnx").graph.node) <= most + (5 if batch else 0)
