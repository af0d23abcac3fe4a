"""The transformer on patches against loops in NumPy, its shapes, and its graph."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from shoestring.core.errors import BadInput
from shoestring.graph.capture import capture
from shoestring.models.point_vit import (
    Attention,
    Patches,
    PointViT,
    point_vit,
    point_vit_s,
    point_vit_ti,
    pooled,
    some_patches,
)
from shoestring.models.zoo import build
from shoestring.pipeline.original import resolve
from shoestring.pipeline.post_training import outputs


def cloud(batch: int = 2, points: int = 60) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((batch, points, 3)).astype(np.float32)) / 2


def small(classes: int = 0) -> PointViT:
    torch.manual_seed(0)
    return PointViT(24, 2, 3, patches=8, neighbours=6, classes=classes).eval()


def test_a_token_is_two_maxima_over_the_patch() -> None:
    """As the paper's code has it: the maximum beside every point, in one layer over both."""
    torch.manual_seed(0)
    layer = Patches(24).eval()
    groups = torch.randn(2, 5, 7, 3)
    w = {name: value.numpy().squeeze() for name, value in layer.state_dict().items()}
    norm = 1 / np.sqrt(1 + layer.bn1.eps)
    for b in range(2):
        for m in range(5):
            x = groups[b, m].numpy()
            x = np.maximum(x @ w["conv1.weight"].T * norm, 0) @ w["conv2.weight"].T + w["conv2.bias"]
            both = np.concatenate([x, np.broadcast_to(x.max(0), x.shape)], 1)
            x = both @ np.concatenate([w["own.weight"], w["shared.weight"]], 1).T
            x = np.maximum(x * norm, 0) @ w["conv4.weight"].T + w["conv4.bias"]
            np.testing.assert_allclose(layer(groups)[b, m].detach().numpy(), x.max(0), rtol=1e-4, atol=1e-5)


def test_attention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(12, 3), nn.MultiheadAttention(12, 3, bias=False, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.q.weight, ours.k.weight, ours.v.weight]))
        theirs.out_proj.weight.copy_(ours.project.weight)
        x = torch.randn(2, 5, 12)
        expected = theirs(x, x, x, need_weights=False)[0] + ours.project.bias
        torch.testing.assert_close(ours(x), expected)


def test_patches_are_the_nearest_about_far_apart_centres() -> None:
    xyz = cloud()
    groups, centres = small().group(xyz)
    for b in range(2):
        for m in range(8):
            away = np.sort(np.linalg.norm(xyz[b].numpy() - centres[b, m].numpy(), axis=1))
            np.testing.assert_allclose(np.linalg.norm(groups[b, m].numpy(), axis=1), away[:6], atol=1e-6)
    assert torch.equal(centres[:, 0], xyz[:, 0])


def test_features_are_the_maximum_and_the_mean() -> None:
    tokens, centres = small().tokens(cloud())
    assert tokens.shape == (2, 8, 24)
    assert centres.shape == (2, 8, 3)
    found = small().features(cloud())
    torch.testing.assert_close(found, torch.cat([tokens.max(1).values, tokens.sum(1) / 8], 1))
    assert torch.equal(found, pooled(tokens))
    assert torch.equal(found, small()(cloud()))


def test_of_two_clouds_in_a_batch_neither_sees_the_other() -> None:
    both, alone = small().features(cloud()), small().features(cloud()[1:])
    torch.testing.assert_close(both[1:], alone)


def test_a_point_is_interpolated_between_the_tokens_about_it() -> None:
    model, xyz = small(), cloud()
    tokens, centres = (part.detach().numpy() for part in model.tokens(xyz))
    found = model.point_features(xyz).detach().numpy()
    assert found.shape == (2, 60, 24)
    for n in range(60):
        squared = np.square(centres[1] - xyz[1, n].numpy()).sum(1)
        near = np.argsort(squared, kind="stable")[:3]
        shares = 1 / np.maximum(squared[near], 1e-8)
        np.testing.assert_allclose(found[1, n], shares @ tokens[1, near] / shares.sum(), rtol=1e-3, atol=1e-4)


def test_a_centre_has_its_token() -> None:
    model, xyz = small(), cloud()
    torch.testing.assert_close(model.point_features(xyz)[:, 0], model.tokens(xyz)[0][:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("factory", "parameters"), [(point_vit, 0.50e6), (point_vit_ti, 5.5e6), (point_vit_s, 22.1e6)])
def test_sizes(factory: type[PointViT], parameters: float) -> None:
    with torch.device("meta"):
        model = factory()
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(parameters, rel=0.05)


def test_classes_are_scored() -> None:
    assert small(5)(cloud()).shape == (2, 5)


def test_too_few_points_are_told() -> None:
    with pytest.raises(BadInput, match="8 of 7 points cannot be had"):
        small()(cloud(points=7))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_computes_the_same(runtime: str) -> None:
    """As exported: the largest difference of logits of about 1 seen was 1e-6, of sums of 192 in float32."""
    if runtime == "openvino":
        pytest.importorskip("openvino")
    original = resolve("point_vit")
    inputs = [functional.normalize(cloud(1, 1024), dim=2).numpy()]
    with torch.no_grad():
        expected = build("point_vit")(torch.from_numpy(inputs[0])).numpy()
    np.testing.assert_allclose(outputs(original.graph, runtime, inputs), expected, atol=2e-5)


def test_capture_follows_it() -> None:
    """Every product, norm and operator is a node; sampling and grouping are one each."""
    graph = capture(small(5), (60, 3))
    calls = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert [name for name in calls if name.startswith("shoestring")] == [
        "shoestring.farthest.default",
        "shoestring.take.default",
        "shoestring.nearest.default",
        "shoestring.take.default",
    ]
    layers = [node for node in graph.graph.nodes if node.op == "call_module"]
    assert sum(isinstance(graph.get_submodule(str(node.target)), nn.Linear) for node in layers) == 2 + 2 * 6 + 1
    torch.testing.assert_close(graph(cloud()), small(5)(cloud()))


def test_patches_are_taken_by_index() -> None:
    groups, index = torch.randn(2, 5, 4, 3), torch.tensor([[4, 0], [1, 1]])
    assert torch.equal(some_patches(groups, index), torch.stack([groups[0, [4, 0]], groups[1, [1, 1]]]))
