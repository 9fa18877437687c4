"""The smallest member of every family of timm, a family being a module of `timm.models`.

A line of the table: module, model, millions of parameters, size of the images (the model's own where it is fixed, else
at most 128). Found by building each member on the meta device.
"""

from __future__ import annotations

from functools import partial

import timm

from models.entry import Entry, Example, batched

__all__ = ["ENTRIES"]

TABLE = """
    beit beit_base_patch16_224 86.5 224
    byoanet halonet_h1 8.1 256
    byobnet test_byobnet 0.5 128
    cait cait_xxs24_224 12.0 224
    coat coat_tiny 5.5 224
    convit convit_tiny 5.7 224
    convmixer convmixer_768_32 21.1 128
    convnext test_convnext 0.3 128
    cpubone cpubone_nano 6.5 128
    crossvit crossvit_tiny_240 7.0 240
    csatv2 csatv2 11.1 128
    cspnet cs3darknet_focus_s 3.3 128
    cspnext cspnext_tiny 2.7 128
    davit davit_tiny 28.4 128
    deepseek_vit deepseek_vit_412m 411.8 112
    deit deit_tiny_patch16_224 5.7 224
    densenet densenet121 8.0 128
    dla dla46x_c 1.1 128
    dpn dpn48b 9.1 128
    edgenext edgenext_xx_small 1.3 128
    efficientformer efficientformer_l1 12.3 224
    efficientformer_v2 efficientformerv2_s0 3.6 224
    efficientnet mnasnet_small 2.0 128
    efficientvim efficientvim_m1 6.7 128
    efficientvit_mit efficientvit_b0 3.4 128
    efficientvit_msra efficientvit_m0 2.3 224
    eva vit_tiny_patch16_dinov3_qkvb 5.5 256
    fasternet fasternet_t0 3.9 128
    fastvit fastvit_t8 4.0 128
    focalnet focalnet_tiny_srf 28.4 128
    gcvit gcvit_xxtiny 12.0 224
    gemma4_vit gemma4_vit_167m 167.4 128
    ghostnet ghostnet_050 2.6 128
    hardcorenas hardcorenas_b 5.2 128
    hgnet hgnetv2_b0 6.0 128
    hiera hiera_tiny_224 27.9 224
    hieradet_sam2 sam2_hiera_tiny 26.9 128
    hrnet hrnet_w18_small 13.2 128
    iformer iformer_t 2.9 128
    inception_next inception_next_atto 4.2 128
    inception_resnet_v2 ens_adv_inception_resnet_v2 55.8 128
    inception_v3 adv_inception_v3 23.8 128
    inception_v4 inception_v4 42.7 128
    lcnetv2 lcnetv2_small 4.1 128
    levit levit_128s 7.8 224
    lowformer lowformer_b0 14.1 128
    mambaout test_mambaout 0.4 128
    maxxvit test_coatnet 0.6 160
    metaformer poolformerv2_s12 11.9 128
    mlp_mixer gmlp_ti16_224 5.9 224
    mobilenetv3 mobilenetv3_small_050 1.6 128
    mobilenetv5 mobilenetv5_base 82.6 128
    mobilevit mobilevit_xxs 1.3 128
    mvitv2 mvitv2_tiny 24.2 224
    naflexvit naflexvit_so150m2_patch16_reg1_gap 136.1 128
    nasnet nasnetalarge 88.8 128
    nest jx_nest_tiny 17.1 224
    nextvit nextvit_small 31.8 128
    nfnet test_nfnet 0.4 128
    pit pit_ti_224 4.8 224
    pnasnet pnasnet5large 86.1 128
    pvt_v2 pvt_v2_b0 3.7 128
    qwen3_vit qwen3_vit_88m 87.4 128
    rdnet rdnet_tiny 23.9 128
    regnet regnetx_002 2.7 128
    repghost repghostnet_050 2.3 128
    repvit repvit_m1 5.5 128
    res2net res2next50 24.7 128
    resnest resnest14d 10.6 128
    resnet resnet10t 5.4 128
    resnetv2 resnetv2_18 11.7 128
    rexnet rexnet_100 4.8 128
    selecsls selecsls42 30.4 128
    senet legacy_seresnet18 11.8 128
    sequencer sequencer2d_s 27.7 224
    shvit shvit_s1 6.3 128
    sknet skresnet18 12.0 128
    starnet starnet_s050 0.5 128
    swiftformer swiftformer_xs 3.5 224
    swin_transformer swin_tiny_patch4_window7_224 28.3 224
    swin_transformer_v2 swinv2_tiny_window16_256 28.3 256
    swin_transformer_v2_cr swinv2_cr_tiny_224 28.3 224
    tiny_vit tiny_vit_5m_224 12.1 128
    tnt tnt_s_legacy_patch16_224 23.8 224
    tresnet tresnet_m 31.4 128
    twins twins_svt_small 24.1 224
    vgg vgg11 132.9 128
    visformer visformer_tiny 10.3 224
    vision_transformer test_vit 0.4 160
    vision_transformer_hybrid vit_tiny_r_s16_p8_224 6.3 224
    vision_transformer_relpos test_vit_relpos 0.9 160
    vision_transformer_sam samvit_base_patch16_224 86.5 224
    vitamin vitamin_small_224 22.2 224
    volo volo_d1_224 26.6 224
    vovnet ese_vovnet19b_slim_dw 1.9 128
    xception legacy_xception 22.9 128
    xception_aligned xception41p 26.9 128
    xcit xcit_nano_12_p8_224 3.0 224
"""


def _make(name: str, size: int, symbolic: bool) -> Example:
    module = timm.create_model(name, pretrained=False)
    channels = int(module.default_cfg["input_size"][0])
    return batched(module.eval(), (channels, size, size), symbolic=symbolic)


def _entry(line: str) -> Entry:
    module, name, millions, size = line.split()
    return Entry(f"timm/{name}", f"timm {module}", partial(_make, name, int(size)), float(millions))


ENTRIES = tuple(_entry(line) for line in TABLE.strip().splitlines())
