"""Whatever a user may name, as one float graph: compared with torch and with onnxruntime used directly."""

import hashlib
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from shoestring.core.errors import BadInput
from shoestring.core.layer import CONV, DEPTHWISE, LINEAR
from shoestring.deploy.rewrite import initialisers
from shoestring.models import zoo
from shoestring.pipeline.original import Original, parse_shape, resolve
from shoestring.pipeline.post_training import outputs

ROOT = Path(__file__).parents[1]
LAYERS = runpy.run_path(str(ROOT / "tiny.py"))["LAYERS"]
FACTORY = "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())\n"


def torch_outputs(model: torch.nn.Module, inputs: list[np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return model.eval()(torch.from_numpy(np.concatenate(inputs))).numpy()


def test_a_factory_in_a_file(tiny: str, inputs) -> None:
    found = resolve(tiny, input="3x32x32")
    assert (found.name, found.input, found.trained) == ("tiny", (3, 32, 32), True)
    assert [layer.name for layer in found.layers if layer.weight] == LAYERS
    assert set(LAYERS) <= {node.name for node in found.graph.graph.node}
    assert (found.preprocess, found.labels) == (None, ())
    expected = torch_outputs(runpy.run_path(tiny.removesuffix(":tiny"))["tiny"](), inputs)
    # float32 sums in another order, and batch norms folded into the weights
    np.testing.assert_allclose(outputs(found.graph, "onnxruntime", inputs), expected, rtol=1e-3, atol=1e-4)


def test_a_factory_in_a_package_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "networks.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    found = resolve("shelf.networks:make", input="3x8x8")
    assert [layer.name for layer in found.layers] == ["0"]
    assert found.provenance["model"] == "shelf.networks:make"
    assert sys.path == before


def test_a_file_may_import_its_neighbours_and_hide_no_module(tmp_path: Path) -> None:
    """As when it is run as a script; and dataclasses look their own module up."""
    (tmp_path / "neighbour.py").write_text("WIDTH = 7\n")
    code = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom neighbour import WIDTH\n"
        "@dataclass\nclass Settings:\n    width: int = WIDTH\n" + FACTORY.replace("3, 4, 3", "3, Settings().width, 3")
    )
    (tmp_path / "random.py").write_text(code)
    before, random = list(sys.path), sys.modules["random"]
    found = resolve(f"{tmp_path / 'random.py'}:make", input="3x8x8")
    assert found.layers[0].weight == (7, 3, 3, 3)
    assert (sys.path, sys.modules["random"]) == (before, random)


def test_weights_for_a_factory(tiny: str, tmp_path: Path, inputs) -> None:
    model = runpy.run_path(tiny.removesuffix(":tiny"))["tiny"]()
    with torch.no_grad():
        model.classifier.bias.fill_(5.0)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    found = resolve(tiny, str(tmp_path / "weights.pth"), "3x32x32")
    np.testing.assert_allclose(
        outputs(found.graph, "onnxruntime", inputs), torch_outputs(model, inputs), rtol=1e-3, atol=1e-4
    )
    digest = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    assert found.provenance == {"model": "tiny.py:tiny", "weights": digest}  # no path of this machine


def test_a_name_in_the_zoo(inputs, tmp_path: Path) -> None:
    found = resolve("cifar_mobilenet")
    assert (found.name, found.input, found.trained) == ("cifar_mobilenet", (3, 32, 32), False)
    assert found.preprocess["crop"] == [32, 32]
    assert found.labels[0] == "airplane"
    model = zoo.build("cifar_mobilenet")
    np.testing.assert_allclose(
        outputs(found.graph, "onnxruntime", inputs[:2]), torch_outputs(model, inputs[:2]), rtol=1e-3, atol=1e-3
    )
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    assert resolve("cifar_mobilenet", str(tmp_path / "weights.pth")).trained


@pytest.mark.parametrize("name", ["float", "old"])
def test_an_onnx_file(name: str, onnx_files: Mapping[str, Path], inputs) -> None:
    path = onnx_files[name]
    found = resolve(str(path))
    assert (found.name, found.input, found.model, found.trained) == (name, (3, 32, 32), None, True)
    assert found.provenance == {"model": path.name, "weights": hashlib.sha256(path.read_bytes()).hexdigest()}
    kinds = [layer.kind for layer in found.layers if layer.weight]
    assert kinds == [CONV, DEPTHWISE, CONV, DEPTHWISE, CONV, LINEAR]
    assert [entry.version for entry in found.graph.opset_import if entry.domain == ""] == [21]
    assert found.graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {"x": x})[0] for x in inputs])
    np.testing.assert_allclose(outputs(found.graph, "onnxruntime", inputs), expected, rtol=1e-3, atol=1e-4)


def test_the_two_ways_in_find_the_same_layers(tiny: str, onnx_files: Mapping[str, Path]) -> None:
    """From torch, and from a file that another exporter wrote of the same network."""
    torch_layers, onnx_layers = (
        [layer for layer in found.layers if layer.weight]
        for found in (resolve(tiny, input="3x32x32"), resolve(str(onnx_files["float"])))
    )
    for ours, theirs in zip(torch_layers, onnx_layers, strict=True):
        for field in ("kind", "input", "output", "weight", "groups", "macs"):
            assert getattr(ours, field) == getattr(theirs, field), (ours.name, field)


def test_of_kinds(tmp_path: Path, onnx_files: Mapping[str, Path]) -> None:
    """What a method can be applied to: the second call of a module too, but no function with a weight of its own."""
    (tmp_path / "odd.py").write_text(
        "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"
        "class Odd(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.stem, self.up = nn.Conv2d(3, 3, 3, padding=1), nn.ConvTranspose2d(3, 3, 2, 2)\n"
        "        self.kernel = nn.Parameter(torch.ones(3, 3, 1, 1))\n"
        "    def forward(self, x):\n        return self.up(F.conv2d(self.stem(self.stem(x)), self.kernel))\n"
    )
    found = resolve(f"{tmp_path / 'odd.py'}:Odd", input="3x8x8")
    assert [layer.name for layer in found.layers] == ["stem", "stem:2", "conv2d", "up"]
    assert [layer.name for layer in found.of_kinds((CONV,))] == ["stem", "stem:2"]
    assert found.of_kinds((LINEAR,)) == ()
    from_file = resolve(str(onnx_files["float"]))
    assert len(from_file.of_kinds((CONV, DEPTHWISE, LINEAR))) == len(LAYERS)


@pytest.mark.parametrize(("text", "shape"), [("3x32x32", (3, 32, 32)), ("1X28x28", (1, 28, 28)), ("64", (64,))])
def test_parse_shape(text: str, shape: tuple[int, ...]) -> None:
    assert parse_shape(text) == shape


@pytest.mark.parametrize("text", ["", "3x", "3x-1x4", "0x3", "3x3.5", "three", "3,32,32"])
def test_shapes_that_are_none(text: str) -> None:
    with pytest.raises(BadInput, match="write CxHxW, for example 3x224x224"):
        parse_shape(text)


BAD = {
    "resnet19": "known are",
    "nowhere.py:make": "there is no such file",
    "not_a_module_anywhere:make": "ModuleNotFoundError",
    "broken.py:make": "cannot be imported: SyntaxError",
    "leaves.py:make": "cannot be imported: SystemExit",
    "good.py:other": "has no function 'other'",
    "good.py:FOUR": "has no function 'FOUR'",
    "good.py:fails": "calling it failed: ValueError: two lines",
    "good.py:leaves": "calling it failed: SystemExit",
    "good.py:number": "returned int, not a torch.nn.Module",
    "good.py:wide": "does not run on 3x32x32",
    "nowhere.onnx": "cannot be read: No such file",
    "folder.onnx": "cannot be read: Is a directory",
    "text.onnx": "text.onnx: ",
    "two.onnx": "has 2 inputs and 1 outputs",
    "open.onnx": "has no fixed length",
}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with files that do not work."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("def make(:\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "good.py").write_text(
        FACTORY + "FOUR = 4\ndef number(): return 4\ndef fails(): raise ValueError('two\\nlines')\n"
        "def leaves(): raise SystemExit(1)\ndef wide(): return nn.Conv2d(9, 4, 3)\n"
    )
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "text.onnx").write_text("this is no graph\n")
    for name, inputs, height in (("two", ["a", "b"], 4), ("open", ["a", "a"], "h")):
        node = helper.make_node("Add", inputs, ["y"], name="add")
        given, result = (
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, height, 4]) for n in names]
            for names in (dict.fromkeys(inputs), ["y"])
        )
        graph = helper.make_graph([node], "g", given, result)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), f"{name}.onnx")
    return tmp_path


@pytest.mark.parametrize("model", BAD)
def test_what_cannot_be_used_is_told_in_one_line(model: str, shelf: Path) -> None:
    factory = ":" in model
    with pytest.raises(BadInput) as refused:
        resolve(model, input="3x32x32" if factory else None)
    assert BAD[model] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_options_that_do_not_belong_together(tiny: str, onnx_files: Mapping[str, Path], shelf: Path) -> None:
    path = str(onnx_files["float"])
    with pytest.raises(BadInput, match="add --input CxHxW"):
        resolve(tiny)
    with pytest.raises(BadInput, match="leave --weights out"):
        resolve(path, weights="x.pth")
    for model in (path, "resnet18"):
        with pytest.raises(BadInput, match="leave --input out"):
            resolve(model, input="3x32x32")
    with pytest.raises(BadInput, match=r"x\.pth does not exist"):
        resolve(tiny, "x.pth", "3x32x32")


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_what_is_quantised_already_is_refused(form: str, onnx_files: Mapping[str, Path]) -> None:
    with pytest.raises(BadInput, match=r"already quantised; give the float original \(`shoestring receipt`"):
        resolve(str(onnx_files[form]))


def test_bounds_of_an_exporter_are_constants(onnx_files: Mapping[str, Path]) -> None:
    """The ReLU6 of torch's exporter has Constant nodes; what is quantised clips codes, not floats, as from torch."""
    graph = resolve(str(onnx_files["float"])).graph
    assert "Constant" not in {node.op_type for node in graph.graph.node}
    clips = [node for node in graph.graph.node if node.op_type == "Clip"]
    assert len(clips) == 3
    assert {name for node in clips for name in node.input[1:]} <= set(initialisers(graph))


def test_noise_is_always_the_same(original: Original) -> None:
    one, other = original.noise(), original.noise()
    assert [x.shape for x in one] == [(1, 3, 32, 32)] * 4
    assert all(np.array_equal(x, y) for x, y in zip(one, other, strict=True))
    assert not np.array_equal(one[0], one[1])
