"""Points that share integers: the codes of the wide one, and what each point computes by them."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, numpy_helper
from torch import nn

from shoestring.compress.lsq import plus
from shoestring.compress.slim.network import beside, plain
from shoestring.compress.slim.space import Shape, parse
from shoestring.compress.slim.views import Views
from shoestring.core.ladder import Point
from shoestring.deploy.export import export
from shoestring.deploy.grids import stored
from shoestring.deploy.learned import realise
from shoestring.deploy.materialise import materialise
from shoestring.deploy.normal_form import violations
from shoestring.deploy.sharing import moved_up_by, share, with_codes_of
from shoestring.pipeline.ladder import layer_parts
from shoestring.pipeline.original import Original, remade, resolve
from shoestring.pipeline.post_training import eight_bit, outputs
from shoestring.pipeline.samples import Samples

NARROW = Shape(0.5, 1)
LAYERS = ("blocks.0.depthwise.0", "blocks.0.project.0", "blocks.1.depthwise.0", "blocks.1.project.0")


@pytest.fixture(scope="module")
def inputs() -> list[np.ndarray]:
    return [np.random.default_rng(i).normal(0, 1, (1, 3, 32, 32)).astype(np.float32) for i in range(12)]


@pytest.fixture(scope="module")
def built(tiny: str, inputs: list[np.ndarray]) -> dict:
    """The tiny network and its half in 8 bits, each with ranges of its own."""
    original = resolve(tiny, input="3x32x32")
    assert original.model is not None
    with torch.no_grad():  # norms that differ by width, one output of each switched off
        for module in original.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2.0)
                module.weight[1::4].neg_()
    views, samples = Views(original.model, parse("w=0.5,1:d=1:r=1")), Samples(inputs[:8], inputs[8:])
    found: dict = {"views": views}
    for name, shape in (("wide", Shape()), ("narrow", NARROW)):
        network: Original = remade(original, plain(views, shape, inputs[:8]))
        graph = eight_bit(network, samples).build()
        found[name] = network, graph, layer_parts(views.at(shape).parts)
    return found


def joined(built: dict) -> ModelProto:
    (wide, codes, _), (narrow, graph, parts) = built["wide"], built["narrow"]
    return with_codes_of(codes, wide.graph, graph, narrow.graph, parts)


def test_every_layer_has_the_part_of_the_wide_codes(built: dict) -> None:
    ours, theirs = stored(joined(built)), stored(built["wide"][1])
    parts = built["narrow"][2]
    assert set(ours) < set(theirs)  # a block less
    for name, layer in ours.items():
        np.testing.assert_array_equal(layer.weight, theirs[name].weight[parts[name]], name)
        assert layer.scales is not None
        assert (layer.scales > 0).all()


def test_it_computes_what_it_did(built: dict, inputs: list[np.ndarray]) -> None:
    """Codes of the wide weight are a little coarser than its own would be, and nothing else changes."""
    narrow, own, _ = built["narrow"]
    made = joined(built)
    assert violations(made) == []
    exact, alone, shared = (outputs(graph, "onnxruntime", inputs) for graph in (narrow.graph, own, made))
    spread = np.abs(exact - exact.mean()).mean()
    assert np.abs(alone - exact).mean() < 0.1 * spread
    assert np.abs(shared - exact).mean() < 0.15 * spread


def test_one_set_of_weights_in_the_file(built: dict, inputs: list[np.ndarray]) -> None:
    _, wide, full = built["wide"]
    made = joined(built)
    shared = share(wide, [(made, built["narrow"][2]), (wide, full)])
    assert shared.own == 0
    arrays = [name for name in shared.members if name.endswith(".npy")]
    layers = stored(wide)
    assert len(arrays) == len(layers)
    codes = sum(layer.weight.size for layer in layers.values())
    assert sum(len(shared.members[name]) for name in arrays) < codes + 200 * len(arrays)
    for point, graph in zip(shared.points, (made, wide), strict=True):
        again = onnx.load_from_string(materialise(point, shared.members))
        for name in ("onnxruntime",):
            np.testing.assert_array_equal(outputs(again, name, inputs[:2]), outputs(graph, name, inputs[:2]))


def test_only_what_points_use_is_kept(built: dict) -> None:
    made = joined(built)
    shared = share(built["wide"][1], [(made, built["narrow"][2])])
    kept = sum(len(data) for name, data in shared.members.items() if name.endswith(".npy"))
    codes = sum(layer.weight.size for layer in stored(made).values())
    assert kept < codes + 200 * len(shared.members)


def test_a_layer_of_other_codes_keeps_its_own(built: dict, inputs: list[np.ndarray]) -> None:
    _, wide, full = built["wide"]
    made = joined(built)
    name = next(iter(stored(made)))
    other = ModelProto()
    other.CopyFrom(made)
    tensor = next(t for t in other.graph.initializer if t.name.startswith(name) and len(t.dims) == 4)
    changed = numpy_helper.to_array(tensor).copy()
    changed.flat[0] += 1
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    shared = share(wide, [(other, built["narrow"][2]), (wide, full)])
    assert shared.own == changed.nbytes
    point: Point = shared.points[0]
    assert tensor.name not in point.weights
    again = onnx.load_from_string(materialise(point, shared.members))
    np.testing.assert_array_equal(outputs(again, "onnxruntime", inputs[:1]), outputs(other, "onnxruntime", inputs[:1]))


def test_another_weight_is_not_taken_for_a_part(built: dict) -> None:
    (wide, codes, _), (narrow, graph, parts) = built["wide"], built["narrow"]
    floats = ModelProto()
    floats.CopyFrom(wide.graph)
    name = next(iter(parts))
    for tensor in floats.graph.initializer:
        if tensor.name.startswith(name) and len(tensor.dims) == 4:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(values + 0.1 * np.abs(values).max(), tensor.name))
    made = with_codes_of(codes, floats, graph, narrow.graph, parts)
    np.testing.assert_array_equal(stored(made)[name].weight, stored(graph)[name].weight)
    assert replace(wide, graph=floats).graph is floats


@pytest.fixture(scope="module")
def learned(tiny: str, inputs: list[np.ndarray]) -> dict:
    """The tiny network and two inside of it on grids of 4 bits (8 at the ends), started and not trained."""
    original = resolve(tiny, input="3x32x32")
    assert original.model is not None
    views = Views(original.model, parse("w=0.5,1:d=1:r=1"))
    settings = {name: plus.parse("w4a4") for name in LAYERS} | {"stem.0": plus.parse("w8a8")}
    settings["classifier"] = plus.parse("w3a4")
    slimming = beside(views, plus.apply(views.gm, settings))
    slimming.settle(inputs[:8])
    slimming.freeze()
    found: dict = {"bits": {name: setting.bits.weights for name, setting in settings.items()}}
    for name, shape in (("wide", Shape()), ("half", Shape(0.5)), ("narrow", NARROW)):
        small = slimming.at(shape, inputs[:8])
        floats = export(small.bake(), (3, 32, 32))
        found[name] = floats, dict(small.grids), layer_parts(views.at(shape).parts)
    return found


def test_learned_codes_are_packed_once_and_each_point_finds_its_part(learned: dict, inputs: list[np.ndarray]) -> None:
    graphs = {name: realise(learned[name][0], learned[name][1]) for name in ("wide", "half", "narrow")}
    moved = {name: moved_up_by(graph, learned[name][1]) for name, graph in graphs.items()}
    assert moved["wide"]["blocks.0.project.0"] == 4
    assert moved["wide"]["stem.0"] == 0
    points = [(graphs[name], learned[name][2]) for name in ("narrow", "half", "wide")]
    shared = share(graphs["wide"], points, learned["bits"])
    assert shared.own == 0
    sizes = {layer: stored(graphs["wide"])[layer].weight.size for layer in learned["bits"]}
    packed = sum(size if learned["bits"][layer] == 8 else -(-size // 2) for layer, size in sizes.items())
    arrays = [data for name, data in shared.members.items() if name.endswith(".npy")]
    assert sum(map(len, arrays)) < packed + 200 * len(arrays)
    for (graph, _), point in zip(points, shared.points, strict=True):
        again = onnx.load_from_string(materialise(point, shared.members))
        for layer, own in stored(graph).items():
            np.testing.assert_array_equal(stored(again)[layer].weight, own.weight, layer)
        np.testing.assert_array_equal(
            outputs(again, "onnxruntime", inputs[:1]), outputs(graph, "onnxruntime", inputs[:1])
        )
    for name, (graph, parts) in zip(("narrow", "half", "wide"), points, strict=True):
        for layer, own in stored(graph).items():  # the codes as NumPy cuts them
            up = moved[name][layer]
            codes = learned["wide"][1][layer].codes[parts[layer]].astype(np.int16) << up
            np.testing.assert_array_equal(own.weight, codes, layer)


def test_points_whose_codes_lie_elsewhere_in_their_bytes_share_them_too(
    learned: dict, inputs: list[np.ndarray]
) -> None:
    wide = realise(*learned["wide"][:2])
    low = realise(*learned["half"][:2], dict.fromkeys(learned["bits"], 1))
    assert moved_up_by(low, learned["half"][1])["blocks.0.project.0"] == 1
    shared = share(wide, [(low, learned["half"][2]), (wide, learned["wide"][2])], learned["bits"])
    assert shared.own == 0
    told = {name: part for name, part in shared.points[0].weights.items() if "bits" in part}
    assert {part["shift"] for part in told.values()} == {1}
    again = onnx.load_from_string(materialise(shared.points[0], shared.members))
    np.testing.assert_array_equal(outputs(again, "onnxruntime", inputs[:1]), outputs(low, "onnxruntime", inputs[:1]))
    unpacked = share(wide, [(low, learned["half"][2])])
    assert unpacked.own == sum(stored(low)[name].weight.size for name, bits in learned["bits"].items() if bits < 8)


def test_codes_of_a_part_do_not_move_up_on_their_own(built: dict) -> None:
    """What is left of a weight may be small enough for it: its codes would be others than those of the whole."""
    (wide, codes, _), (narrow, graph, parts) = built["wide"], built["narrow"]
    small, floats = ModelProto(), ModelProto()
    small.CopyFrom(codes)
    floats.CopyFrom(wide.graph)
    name = "blocks.0.project.0"
    part = parts[name]
    for model, share_ in ((small, 0.25), (floats, 0.25)):
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor).copy()
            if tensor.name.startswith(f"{name}.weight") and values.ndim == 4:
                values[part] = (values[part] * share_).astype(values.dtype)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    made = with_codes_of(small, floats, graph, narrow.graph, {name: part})
    np.testing.assert_array_equal(stored(made)[name].weight, stored(small)[name].weight[part])
