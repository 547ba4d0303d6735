"""float32 beside float64 of the same network, with random weights of the published widths: what a clone without the
goldens knows of its processor's arithmetic."""

import copy

import pytest
import torch

from esam_perception.matching.configuration import BlipArchitecture, TowerSize, build_blip
from esam_perception.matching.cross_encoder import cross_encode
from esam_perception.matching.image_encoder import encode_image
from esam_perception.segmentation import EfficientSam, EfficientSamConfig
from test.numerics.bounds import rounding

# The published widths, few layers.
BLIP = BlipArchitecture(
    image_size=96, vision=TowerSize(num_hidden_layers=1), text=TowerSize(num_hidden_layers=2), vocab_size=200,
    max_position_embeddings=40, gradcam_layer=0,
)  # fmt: skip
SAM = EfficientSamConfig(image_size=256, depth=2)


def randomised(module):
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        else:
            torch.nn.init.constant_(parameter, float(name.endswith("weight")))
    return module.eval().requires_grad_(False)


def both(network, compute, *inputs):
    """What `compute` makes of the network and its inputs in float32 and in float64."""
    double = [x.double() if x.is_floating_point() else x for x in inputs]
    return zip(compute(network, *inputs), compute(copy.deepcopy(network).double(), *double), strict=True)


def close(pairs, terms, depth):
    for single, double in pairs:
        assert single.dtype == torch.float32 and double.dtype == torch.float64
        limit = rounding(terms, depth) * double.abs().max().item()
        assert 0 < (single - double).abs().max() <= limit


@pytest.mark.numeric
def test_blip_in_float32_is_as_exact_as_its_sums_are_long():
    torch.manual_seed(0)
    with torch.device("meta"):  # its own random weights take longer than all the rest
        model = build_blip(BLIP)
    model = model.to_empty(device="cpu")
    model.text_encoder.embeddings.position_ids = torch.arange(40).expand((1, -1))
    model = randomised(model)
    ids, mask = torch.randint(7, 200, (1, 2, 9)), torch.ones(1, 2, 9, dtype=torch.long)
    mask[0, 1, 6:] = 0

    def compute(model, pixels):
        with torch.no_grad():
            embeds = encode_image(model.vision_model, pixels)
        encoded = cross_encode(model.text_encoder, ids, mask, embeds, 0, detach_attention=True, first_row_only=True)
        logits = model.itm_head(encoded.hidden[0, :, 0])
        (gradient,) = torch.autograd.grad(logits[:, 1].sum(), encoded.attention)
        return embeds, encoded.attention.detach(), logits.detach(), gradient

    # the longest sums: of the perceptrons; a layer of 6 products and one of 10, and half of the way back
    close(both(model, compute, torch.randn(1, 3, 96, 96)), BLIP.vision.intermediate_size, 24)


@pytest.mark.numeric
def test_efficient_sam_in_float32_is_as_exact_as_its_sums_are_long():
    torch.manual_seed(1)
    model = randomised(EfficientSam(SAM))

    def compute(model, image, points):
        with torch.inference_mode():
            embedding = model.encode_image(image)
            return embedding, *model.decode(embedding, points, torch.ones(1, 3, 2), (60, 90))

    # the longest sums: of the neck's 3 x 3 convolution; 2 blocks of 6 products, the neck, the decoder of two dozen
    points = torch.rand(1, 3, 2, 2) * torch.tensor([90.0, 60.0])
    close(both(model, compute, torch.rand(1, 3, 60, 90), points), 9 * SAM.neck_dim, 40)


def test_products_in_bfloat16_are_found():
    """What oneDNN does where ONEDNN_DEFAULT_FPMATH_MODE lets it."""
    torch.manual_seed(1)
    model, rounded = randomised(EfficientSam(SAM)), EfficientSam(SAM).requires_grad_(False)
    rounded.load_state_dict({name: value.bfloat16().float() for name, value in model.state_dict().items()})
    image = torch.rand(1, 3, 60, 90)
    with torch.inference_mode(), pytest.raises(AssertionError):
        exact = copy.deepcopy(model).double().encode_image(image.double())
        close([(rounded.encode_image(image), exact)], 9 * SAM.neck_dim, 14)
