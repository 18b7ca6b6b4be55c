"""The baselines that the CAN paper compares its networks with: an encoder-decoder and FCN-8s."""

from __future__ import annotations

from reference_models.spec import Evaluation, ModelSpec

_PAPER = (
    "Chen, Xu, Koltun: Fast Image Processing with Fully-Convolutional Networks, ICCV 2017, section 4, "
    "https://arxiv.org/abs/1709.00643"
)
_LICENCE = "none published: defined by the papers' text"
_EVALUATION = Evaluation(
    channels="RGB", note="against the operator's own output, MIT-Adobe FiveK at 1080p, 2,500 test pictures"
)

# How far an output pixel sees, the widest over all positions on the coarsest grid; the tests find it again.
_ENCODER_DECODER_HALO = 107
_FCN8S_HALO = 245

SPECS = (
    ModelSpec(
        name="encoder_decoder",
        family="CAN baseline",
        factory="reference_models.networks.can_baselines:EncoderDecoder",
        source=f"{_PAPER}; after Ronneberger, Fischer, Brox: U-Net, MICCAI 2015, https://arxiv.org/abs/1505.04597",
        licence=_LICENCE,
        description="the CAN paper's encoder-decoder: U-Net with half the kernels, 32 to 512 channels on five scales",
        input="bgr",
        output="bgr",
        rounding="truncate",
        size_multiple=16,
        min_size=16,
        receptive_field_px=1 + 2 * _ENCODER_DECODER_HALO,
        evaluation=_EVALUATION,
    ),
    ModelSpec(
        name="fcn8s",
        family="CAN baseline",
        factory="reference_models.networks.can_baselines:Fcn8s",
        source=f"{_PAPER}; after Shelhamer, Long, Darrell: FCN, TPAMI 2017, https://arxiv.org/abs/1605.06211",
        licence=_LICENCE,
        description="the CAN paper's FCN-8s: VGG-16 with scores at strides 32, 16 and 8, 134 million parameters",
        input="bgr",
        output="bgr",
        rounding="truncate",
        size_multiple=32,
        min_size=32,
        receptive_field_px=1 + 2 * _FCN8S_HALO,
        evaluation=_EVALUATION,
    ),
)
