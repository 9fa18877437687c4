"""Architectures of transformers from small random configurations.

A row names a configuration (`AutoConfig.for_model`), what differs from SMALL, and how the model is fed. The fields of
SMALL are set where the configuration has them, in the configurations of its parts, too.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from typing import Any

import torch
import transformers
from transformers import AutoConfig
from transformers.integrations.executorch import (
    TorchExportableModuleWithStaticCache,
    register_dynamic_cache_export_support,
)

from models.entry import CALIBRATION, Entry, Example, calibrate

__all__ = ["ENTRIES"]

register_dynamic_cache_export_support()
VOCABULARY, LENGTH, PAST, IMAGE = 99, 12, 7, 32
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "d_model": 32,
    "n_embd": 32,
    "dim": 32,
    "n_embed": 32,
    "embedding_size": 32,
    "word_embed_proj_dim": 32,
    "num_hidden_layers": 2,
    "num_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_decoder_layers": 2,
    "num_encoder_layers": 2,
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "num_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_encoder_attention_heads": 4,
    "num_decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "d_kv": 8,
    "intermediate_size": 48,
    "ffn_dim": 48,
    "d_ff": 48,
    "hidden_dim": 48,
    "n_inner": 48,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "n_positions": 64,
    "image_size": IMAGE,
    "patch_size": 8,
    "projection_dim": 16,
    "num_labels": 5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "sliding_window": 8,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
}


@dataclass(frozen=True, slots=True)
class Row:
    """An architecture: configuration, the Auto class or the class of the model, how it is fed, what differs."""

    kind: str
    feed: str
    model: str = "AutoModel"
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""


def small(kind: str, options: Mapping[str, Any]) -> Any:
    """The configuration with the fields of SMALL that it declares, in its parts, too; `options` win."""
    default = AutoConfig.for_model(kind)
    given: dict[str, Any] = _declared(default)
    for part in getattr(default, "sub_configs", None) or {}:
        inner = getattr(default, part, None)
        if inner is not None:
            given[part] = {"model_type": inner.model_type} | _declared(inner) | dict(options.get(part, {}))
    given |= {key: value for key, value in options.items() if key not in given or not isinstance(value, Mapping)}
    return AutoConfig.for_model(kind, **given)


def _declared(config: Any) -> dict[str, Any]:
    names = {each.name for each in fields(config)} if is_dataclass(config) else set(vars(config))
    aliases = getattr(config, "attribute_map", {})
    chosen = {}
    for name, value in SMALL.items():
        if name in names and name not in aliases and not isinstance(getattr(config, name), list | tuple):
            old = getattr(config, name)
            if old is not None or name in ("num_key_value_heads", "head_dim"):
                chosen[name] = value
    return chosen


def make(row: Row, symbolic: bool) -> Example:
    """The model with random weights and example inputs."""
    config = small(row.kind, row.options)
    holder = getattr(transformers, row.model)
    module = holder.from_config(config) if row.model.startswith("Auto") else holder(config)
    module.eval()
    for part in module.modules():
        if row.feed not in ("cache", "static cache") and hasattr(getattr(part, "config", None), "use_cache"):
            part.config.use_cache = False
    example: Example = FEEDS[row.feed](module, config, symbolic)
    if row.feed not in ("static cache",):
        calibrate(example.module, *example.args, **_more(example.kwargs))
    return example


def _more(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """As many images as running statistics want, where images alone are the input."""
    if set(kwargs) != {"pixel_values"}:
        return kwargs
    images = kwargs["pixel_values"]
    return {"pixel_values": torch.cat([images, torch.randn(CALIBRATION - len(images), *images.shape[1:])])}


def _dims() -> tuple[Any, Any]:
    return torch.export.Dim("N", min=1, max=16), torch.export.Dim("S", min=2, max=48)


def _kwargs(module: Any, tensors: Mapping[str, Any], axes: Mapping[str, Any], symbolic: bool) -> Example:
    """The tensors that the model takes, by name; `use_cache=False` and `return_dict` where there is the choice."""
    taken = inspect.signature(module.forward).parameters
    kept = {name: tensor for name, tensor in tensors.items() if name in taken}
    return Example(module, (), kept, {name: axes[name] for name in kept} if symbolic else None)


def _tokens(config: Any, batch: int, length: int) -> torch.Tensor:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return torch.randint(3, getattr(text, "vocab_size", VOCABULARY), (batch, length))


def _text(module: Any, config: Any, symbolic: bool, length: int = LENGTH) -> Example:
    """Tokens and their mask: encoders, and decoders without a cache."""
    batch = 2 if symbolic else 1
    n, s = _dims()
    tokens = _tokens(config, batch, length)
    mask = torch.ones_like(tokens)
    axes = {"input_ids": {0: n, 1: s}, "attention_mask": {0: n, 1: s}}
    return _kwargs(module, {"input_ids": tokens, "attention_mask": mask}, axes, symbolic)


def _cached(module: Any, config: Any, symbolic: bool) -> Example:
    """The next token after a past of keys and values, a `DynamicCache` that comes and goes as a pytree."""
    batch = 2 if symbolic else 1
    n, _ = _dims()
    p = torch.export.Dim("P", min=1, max=40)
    cache = transformers.DynamicCache(config=config.get_text_config())
    with torch.no_grad():
        module(input_ids=_tokens(config, batch, PAST), past_key_values=cache, use_cache=True)
    layers = [{0: n, 2: p} for _ in cache.layers]
    tensors = {
        "input_ids": _tokens(config, batch, 1),
        "attention_mask": torch.ones(batch, PAST + 1, dtype=torch.int64),
        "past_key_values": cache,
    }
    axes = {"input_ids": {0: n}, "attention_mask": {0: n, 1: p + 1}, "past_key_values": [layers, layers]}
    return _kwargs(module, tensors, axes, symbolic)


def _static_cache(module: Any, config: Any, symbolic: bool) -> Example:
    """One token at a position, with a `StaticCache` in buffers that each call writes to: transformers' own recipe."""
    module.generation_config.cache_implementation = "static"
    module.generation_config.use_cache = True
    holder = TorchExportableModuleWithStaticCache(module, batch_size=1, max_cache_len=16, device=torch.device("cpu"))
    tensors = {"input_ids": _tokens(config, 1, 1), "cache_position": torch.tensor([3])}
    return Example(holder.eval(), (), tensors, dict.fromkeys(tensors) if symbolic else None)


def _pair(module: Any, config: Any, symbolic: bool) -> Example:
    """An encoder's and a decoder's tokens."""
    batch = 2 if symbolic else 1
    n, s = _dims()
    t = torch.export.Dim("T", min=2, max=40)
    tokens = _tokens(config, batch, LENGTH)
    tensors = {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "decoder_input_ids": _tokens(config, batch, 5),
    }
    axes = {"input_ids": {0: n, 1: s}, "attention_mask": {0: n, 1: s}, "decoder_input_ids": {0: n, 1: t}}
    return _kwargs(module, tensors, axes, symbolic)


def _image(module: Any, config: Any, symbolic: bool, size: int = 0, frames: int = 0) -> Example:
    batch = 2 if symbolic else 1
    n, _ = _dims()
    given = getattr(config, "image_size", None) or IMAGE
    given = given if isinstance(given, int) else given[0]
    channels = getattr(config, "num_channels", None) or 3
    shape = (batch, *((frames,) if frames else ()), channels, size or given, size or given)
    taken = inspect.signature(module.forward).parameters
    name = "pixel_values" if "pixel_values" in taken else "pixel_values_videos"
    tensors = {name: torch.randn(shape)}
    if "noise" in taken and isinstance(config.patch_size, int):  # the order of patches; the model draws it otherwise
        tensors["noise"] = torch.rand(batch, (given // config.patch_size) ** 2)
    return _kwargs(module, tensors, {each: {0: n} for each in tensors}, symbolic)


def _video(module: Any, config: Any, symbolic: bool) -> Example:
    return _image(module, config, symbolic, frames=getattr(config, "num_frames", 4))


def _wave(module: Any, config: Any, symbolic: bool) -> Example:
    """Raw audio of some 400 samples and more."""
    batch = 2 if symbolic else 1
    n, _ = _dims()
    samples = torch.randn(batch, 1600)
    samples_dim = torch.export.Dim("T", min=800, max=4000)
    taken = inspect.signature(module.forward).parameters
    name = "input_values" if "input_values" in taken else "input_features"
    return _kwargs(module, {name: samples}, {name: {0: n, 1: samples_dim}}, symbolic)


def _clip(module: Any, config: Any, symbolic: bool) -> Example:
    """Text and an image."""
    batch = 2 if symbolic else 1
    n, s = _dims()
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", IMAGE)
    size = size if isinstance(size, int) else size[0]
    tokens = _tokens(config, batch, LENGTH)
    tensors = {
        "input_ids": tokens,
        "pixel_values": torch.randn(batch, getattr(vision, "num_channels", 3), size, size),
        "attention_mask": torch.ones_like(tokens),
    }
    axes = {"input_ids": {0: n, 1: s}, "pixel_values": {0: n}, "attention_mask": {0: n, 1: s}}
    return _kwargs(module, tensors, axes, symbolic)


FEEDS = {
    "text": _text,
    "cache": _cached,
    "static cache": _static_cache,
    "pair": _pair,
    "image": _image,
    "image 64": partial(_image, size=64),
    "image 224": partial(_image, size=224),
    "video": _video,
    "wave": _wave,
    "clip": _clip,
}
FAMILIES = {
    "text": "encoder",
    "cache": "decoder with cache",
    "static cache": "decoder with cache",
    "pair": "encoder-decoder",
    "wave": "audio",
    "clip": "multimodal",
}

ENCODERS = """
    bert roberta electra distilbert albert deberta deberta-v2 mpnet modernbert longformer big_bird fnet squeezebert
    mobilebert convbert nystromformer rembert roformer xlm-roberta xlm ernie camembert layoutlm mra yoso canine ibert
    splinter megatron-bert data2vec-text eurobert nomic_bert markuplm tapas luke flaubert roberta-prelayernorm
    xlm-roberta-xl xlnet bert-generation
"""
DECODERS = """
    gpt2 gpt_neox opt bloom llama mistral qwen2 qwen3 gemma gemma2 gemma3_text phi phi3 falcon mpt stablelm starcoder2
    olmo olmo2 olmo3 granite cohere cohere2 persimmon gpt_bigcode biogpt xglm ctrl openai-gpt smollm3 glm glm4 nemotron
    helium exaone4 ministral bitnet seed_oss apertus arcee diffllama vaultgemma hunyuan_v1_dense ernie4_5
    modernbert-decoder gpt_neox_japanese doge nanochat
"""
EXPERTS = """
    mixtral qwen2_moe qwen3_moe olmoe granitemoe granitemoeshared phimoe gpt_oss llama4_text ernie4_5_moe jetmoe
    glm4_moe hunyuan_v1_moe minimax flex_olmo
"""
STATES = "mamba falcon_mamba jamba rwkv recurrent_gemma xlstm lfm2 falcon_h1 nemotron_h qwen3_next kimi_linear"
PAIRS = """
    t5 mt5 bart mbart pegasus marian m2m_100 blenderbot blenderbot-small led longt5 prophetnet fsmt bigbird_pegasus umt5
    t5gemma plbart nllb-moe switch_transformers pegasus_x mvp
"""
CACHED = """
    gpt2 gpt_neox opt bloom llama mistral qwen2 qwen3 gemma gemma2 gemma3_text phi phi3 falcon stablelm starcoder2 olmo2
    granite cohere mixtral qwen3_moe smollm3 glm4 gpt_oss
"""
STATIC_CACHED = "llama qwen2 gemma gpt_neox phi3 mistral"
IMAGES = """
    vit deit beit resnet regnet mobilenet_v1 mobilenet_v2 mobilevit segformer dinov2 dinov2_with_registers dinov3_vit
    dinov3_convnext poolformer pvt pvt_v2 cvt focalnet hiera bit swiftformer vit_mae vit_msn data2vec-vision dpt glpn
    siglip_vision_model clip_vision_model yolos textnet hgnet_v2 ijepa vitdet aimv2_vision_model mlcd_vision_model pixio
"""
VIDEOS = "timesformer vivit videomae vjepa2"
WAVES = "wav2vec2 hubert wavlm sew sew-d unispeech unispeech-sat data2vec-audio wav2vec2-conformer"
CLIPS = "clip siglip chinese_clip clipseg blip altclip groupvit owlvit owlv2 flava vilt git metaclip_2"
CAUSAL = "AutoModelForCausalLM"
MLA = {"num_key_value_heads": 4, "n_group": 1, "topk_group": 1, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4}
OTHERS = (
    Row("gpt_neo", "text", CAUSAL, {"attention_types": [[["global", "local"], 1]], "window_size": 8}),
    Row("gptj", "text", CAUSAL, {"rotary_dim": 4}),
    Row("codegen", "text", CAUSAL, {"rotary_dim": 4}),
    Row(
        "deepseek_v2",
        "text",
        CAUSAL,
        MLA | {"v_head_dim": 8, "q_lora_rank": 16, "kv_lora_rank": 16, "head_dim": 4, "num_experts_per_tok": 2},
    ),
    Row("deepseek_v3", "text", CAUSAL, MLA | {"v_head_dim": 8, "q_lora_rank": 16, "kv_lora_rank": 16, "head_dim": 4}),
    Row("mamba2", "text", CAUSAL, {"num_heads": 8, "head_dim": 8, "n_groups": 1, "state_size": 8, "chunk_size": 8}),
    Row("bamba", "text", CAUSAL, {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1}),
    Row("granitemoehybrid", "text", CAUSAL, {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1}),
    Row("esm", "text", "AutoModel", {"vocab_size": 33, "mask_token_id": 32, "pad_token_id": 1}),
    Row("lilt", "text", "AutoModel", {"hidden_size": 48}),
    Row("xmod", "text", "AutoModel", {"default_language": "en_XX"}),
    Row(
        "funnel",
        "text",
        "AutoModel",
        {"block_sizes": [1, 1], "num_decoder_layers": 1, "architectures": ["FunnelModel"]},
    ),
    Row("swin", "image", options={"image_size": 64, "patch_size": 4, "window_size": 4, "depths": [2, 2]}),
    Row("swinv2", "image", options={"image_size": 64, "patch_size": 4, "window_size": 4, "depths": [2, 2]}),
    Row("donut-swin", "image", options={"image_size": 64, "patch_size": 4, "window_size": 4, "depths": [2, 2]}),
    Row("convnext", "image 64", options={"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32]}),
    Row("convnextv2", "image 64", options={"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32]}),
    Row("levit", "image", options={"image_size": 64, "patch_size": 16}),
    Row("efficientnet", "image 64", options={"hidden_dim": 2560}),
    Row("mobilevitv2", "image", options={"image_size": 128, "patch_size": 2}),
    Row("swin2sr", "image", options={"image_size": 64, "patch_size": 1, "depths": [2, 2]}),
)


def _rows() -> list[Row]:
    groups = (
        (ENCODERS, "text", "AutoModel"),
        (DECODERS + EXPERTS + STATES, "text", CAUSAL),
        (PAIRS, "pair", "AutoModelForSeq2SeqLM"),
        (CACHED, "cache", CAUSAL),
        (STATIC_CACHED, "static cache", CAUSAL),
        (IMAGES, "image", "AutoModel"),
        (VIDEOS, "video", "AutoModel"),
        (WAVES, "wave", "AutoModel"),
        (CLIPS, "clip", "AutoModel"),
    )
    return [*(Row(kind, feed, model) for kinds, feed, model in groups for kind in kinds.split()), *OTHERS]


def _family(row: Row) -> str:
    if row.feed.startswith(("image", "video")):
        return "vision"
    if row.kind in EXPERTS.split() or row.kind.startswith("deepseek"):
        return "mixture of experts"
    if row.kind in STATES.split() or row.kind in ("mamba2", "bamba", "granitemoehybrid"):
        return "state space"
    return "decoder" if row.model == CAUSAL and row.feed == "text" else FAMILIES[row.feed]


def _entry(row: Row) -> Entry:
    suffix = {"cache": "+cache", "static cache": "+static-cache"}.get(row.feed, "")
    return Entry(f"transformers/{row.kind}{suffix}", f"transformers {_family(row)}", partial(make, row))


ENTRIES = tuple(_entry(row) for row in _rows())
