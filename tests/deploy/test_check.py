"""Graphs from strangers: refused in one line by the look at them, or by the child that loads them first."""

import contextlib
import hashlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from shoestring.core.errors import BadInput
from shoestring.deploy import check, runtimes
from shoestring.deploy.check import check_graph, first_load, trust

Edit = Callable[[ModelProto], object]


def copy_of(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def loop(depth: int = 1) -> NodeProto:
    """A loop in a loop in a loop, whose innermost body is one Identity."""
    inner = [
        helper.make_node("Identity", [f"c{depth}"], [f"o{depth}"]),
        helper.make_node("Identity", ["r"], [f"v{depth}"]),
    ]
    if depth < 1:
        inner = []
    body = helper.make_graph(
        inner,
        "body",
        [
            helper.make_tensor_value_info(f"i{depth}", TensorProto.INT64, []),
            helper.make_tensor_value_info(f"c{depth}", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info(f"o{depth}", TensorProto.BOOL, []),
            helper.make_tensor_value_info(f"v{depth}", TensorProto.FLOAT, None),
        ],
    )
    return helper.make_node("Loop", ["trips", ""], [f"s{depth}"], name="loop", body=body)


def test_a_good_graph_is_returned_parsed(classifier: ModelProto) -> None:
    assert check_graph(classifier.SerializeToString(), "x.onnx") == classifier


def test_loops_are_allowed(classifier: ModelProto) -> None:
    model = copy_of(classifier)
    model.graph.initializer.append(numpy_helper.from_array(np.array(2), "trips"))
    model.graph.node.append(loop())
    assert check_graph(model.SerializeToString(), "x.onnx") == model


def test_low_bit_weights_of_onnx_runtime_are_allowed() -> None:
    graph = helper.make_graph(
        [
            helper.make_node(
                "MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=16, N=2, bits=4, block_size=16
            )
        ],
        "low bits",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [
            numpy_helper.from_array(np.full((2, 1, 8), 0x99, np.uint8), "w"),
            numpy_helper.from_array(np.ones(2, np.float32), "s"),
        ],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    assert len(check_graph(data, "x.onnx").graph.node) == 1
    first_load(data, "x.onnx", "onnxruntime")


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.BOOL])
def test_initialisers_may_be_stored_either_way(classifier: ModelProto, kind: int) -> None:
    model = copy_of(classifier)
    model.graph.initializer.append(helper.make_tensor("typed", kind, [3], [1, 0, 1]))
    raw = {TensorProto.INT4: 2, TensorProto.FLOAT16: 6}.get(kind, 3)
    model.graph.initializer.append(helper.make_tensor("raw", kind, [3], bytes(raw), raw=True))
    model.graph.initializer.append(helper.make_tensor("empty", kind, [0], []))
    assert check_graph(model.SerializeToString(), "x.onnx") == model
    model.graph.initializer[-2].raw_data += b"x"
    with pytest.raises(BadInput, match=rf"initialiser 'raw' of \[3\] holds {raw + 1}"):
        check_graph(model.SerializeToString(), "x.onnx")


def node(model: ModelProto, **fields: str) -> None:
    for name, value in fields.items():
        setattr(model.graph.node[0], name, value)


def attribute(model: ModelProto, **fields: object) -> AttributeProto:
    return model.graph.node[0].attribute.add(name="odd", **fields)  # type: ignore[arg-type]  # any field of it


def deep(levels: int) -> GraphProto:
    graph = GraphProto(name="deep")
    if levels:
        inner = graph.node.add(op_type="If", name="branch")
        inner.attribute.add(name="then_branch", type=AttributeProto.GRAPH).g.CopyFrom(deep(levels - 1))
    return graph


def add_tensor(model: ModelProto, **fields: object) -> TensorProto:
    return model.graph.initializer.add(name="odd", **fields)  # type: ignore[arg-type]  # any field of it


EDITS: list[tuple[Edit, str]] = [
    (lambda m: node(m, op_type="Evil"), r"node 'stem' \(Evil\): this operator is not allowed"),
    (lambda m: node(m, domain="evil.corp"), r"node 'stem' \(evil.corp.Conv\): this operator is not allowed"),
    (lambda m: node(m, op_type="RandomNormal"), "not allowed"),
    (lambda m: node(m, op_type="Relu"), "not valid ONNX"),
    (lambda m: node(m, name="\x1b[2J\n", op_type="Evil"), "not allowed"),
    (lambda m: m.graph.node[0].input.append("nowhere"), "not valid ONNX"),
    (lambda m: m.graph.node[1].output.__setitem__(0, "c"), "not valid ONNX"),
    (lambda m: m.graph.node.reverse(), "not valid ONNX"),
    (lambda m: setattr(m, "ir_version", 99), "IR version 99"),
    (lambda m: m.ClearField("ir_version"), "IR version 0"),
    (lambda m: setattr(m.opset_import[0], "version", 6), "opset 6"),
    (lambda m: setattr(m.opset_import[0], "version", 10**9), "opset 1000000000"),
    (lambda m: m.ClearField("opset_import"), "opset 0"),
    (lambda m: m.functions.add(name="f", domain="d"), "function 'f'; inline"),
    (lambda m: m.training_info.add(), "training graph"),
    (lambda m: m.ClearField("graph"), "no output"),
    (lambda m: m.graph.ClearField("output"), "no output"),
    (lambda m: m.graph.sparse_initializer.add(), "sparse"),
    (lambda m: setattr(m.graph.initializer[0], "data_location", TensorProto.EXTERNAL), "'w' is stored in another file"),
    (lambda m: m.graph.initializer[0].external_data.add(key="location", value="/etc/passwd"), "in another file"),
    (lambda m: m.graph.initializer[0].dims.append(2), r"'w' of \[4, 3, 3, 3, 2\] holds 432"),
    (lambda m: m.graph.initializer[0].dims.__setitem__(0, -4), "impossible dims"),
    (lambda m: m.graph.initializer[0].dims.__setitem__(0, 2**62), "impossible dims"),
    (lambda m: m.graph.initializer[0].dims.extend([1] * 9), "impossible dims"),
    (lambda m: setattr(m.graph.initializer[0], "raw_data", b""), "holds 0"),
    (lambda m: m.graph.initializer[0].ClearField("raw_data"), "holds 0"),
    (lambda m: add_tensor(m, data_type=TensorProto.STRING), "data type 8"),
    (lambda m: add_tensor(m, data_type=12345), "data type 12345"),
    (lambda m: add_tensor(m, data_type=1, dims=[2**40, 2**40]), "impossible dims"),
    (lambda m: add_tensor(m, data_type=1, segment=TensorProto.Segment(begin=0, end=1)), "data type"),
    (lambda m: attribute(m, type=AttributeProto.TENSOR, t=TensorProto(data_type=1, dims=[9])), "attribute 'odd' of"),
    (lambda m: attribute(m, type=AttributeProto.TENSORS, tensors=[TensorProto(data_type=1, dims=[9])]), "'odd' of"),
    (lambda m: attribute(m, type=AttributeProto.SPARSE_TENSOR), "kind that is not supported"),
    (lambda m: attribute(m, ref_attr_name="x"), "kind that is not supported"),
    (lambda m: attribute(m, type=AttributeProto.GRAPH, g=deep(1)), "not valid ONNX"),
    (lambda m: attribute(m, type=AttributeProto.GRAPH, g=deep(20)), "nested deeper"),
    (lambda m: attribute(m, graphs=[GraphProto(node=[NodeProto(op_type="Evil")])]), r"node 0 \(Evil\)"),
    (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 0), "'x' has impossible dims"),
    (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", -1), "'x' has impossible dims"),
    (lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 2**40), "'x' has impossible dims"),
    (lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.STRING), "'x' has the unsupported"),
    (lambda m: m.graph.output[0].ClearField("type"), "'y' has the unsupported"),
    (lambda m: m.graph.input[0].type.sequence_type.elem_type.tensor_type.SetInParent(), "'x' is a sequence"),
    (lambda m: m.graph.value_info.add(name="v").type.map_type.SetInParent(), "'v' is a sequence"),
]


@pytest.mark.parametrize(("edit", "why"), EDITS, ids=range(len(EDITS)))
def test_hostile_graphs_are_refused(classifier: ModelProto, edit: Edit, why: str) -> None:
    model = copy_of(classifier)
    edit(model)
    with pytest.raises(BadInput, match=rf"^x\.onnx: .*{why}") as caught:
        check_graph(model.SerializeToString(), "x.onnx")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def of_function(model: ModelProto, name: str) -> FunctionProto:
    return next(function for function in model.functions if function.name == name)


FUNCTION_EDITS: list[tuple[Edit, str]] = [
    (lambda m: setattr(of_function(m, "TakePoints").node[-1].attribute[0], "i", 0), "function 'TakePoints'; inline"),
    (lambda m: setattr(of_function(m, "NearestPoints"), "doc_string", "ours"), "function 'NearestPoints'; inline"),
    (lambda m: of_function(m, "FarthestPoints").node.pop(), "function 'FarthestPoints'; inline"),
    (lambda m: of_function(m, "TakePoints").opset_import.add(domain="evil", version=1), "'TakePoints'; inline"),
    (lambda m: setattr(of_function(m, "TakePoints"), "domain", "other"), "'TakePoints'; inline"),
    (lambda m: m.functions.add().CopyFrom(m.functions[0]), "defines a function twice"),
    (lambda m: m.functions.pop(), "calls the function 'TakePoints' and does not define it"),
    (lambda m: m.opset_import.pop(), "domain 'shoestring'"),
]


@pytest.mark.parametrize(("edit", "why"), FUNCTION_EDITS, ids=range(len(FUNCTION_EDITS)))
def test_functions_are_ours_to_the_byte(on_points: ModelProto, edit: Edit, why: str) -> None:
    check_graph(on_points.SerializeToString(), "x.onnx")
    model = copy_of(on_points)
    edit(model)
    with pytest.raises(BadInput, match=rf"^x\.onnx: .*{why}"):
        check_graph(model.SerializeToString(), "x.onnx")


@pytest.mark.parametrize("runtime", runtimes.installed(runtimes.STOCK))
def test_a_call_that_asks_for_more_points_than_there_are(on_points: ModelProto, runtime: str) -> None:
    model = copy_of(on_points)
    call = next(node for node in model.graph.node if node.op_type == "NearestPoints")
    call.attribute[0].i = 10**9
    with pytest.raises(BadInput, match=f"^x: {runtime} cannot run it: "):
        first_load(model.SerializeToString(), "x", runtime)


def test_operators_inside_loops_are_checked(classifier: ModelProto) -> None:
    model = copy_of(classifier)
    model.graph.initializer.append(numpy_helper.from_array(np.array(2), "trips"))
    model.graph.node.append(loop())
    model.graph.node[-1].attribute[0].g.node[0].op_type = "Evil"
    with pytest.raises(BadInput, match=r"\(Evil\): this operator"):
        check_graph(model.SerializeToString(), "x.onnx")


@pytest.mark.parametrize("data", [b"", b"junk", b"\x00" * 99, b"PK\x03\x04"])
def test_what_is_no_graph_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match=r"^x\.onnx: "):
        check_graph(data, "x.onnx")


@settings(max_examples=300)
@given(st.data())
def test_any_edit_of_bytes_is_accepted_or_bad_input(classifier: ModelProto, data: st.DataObject) -> None:
    blob = bytearray(classifier.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(blob)))
        blob[start : start + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(BadInput):
        assert check_graph(bytes(blob), "x.onnx").graph.output


def remembered(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.glob("graphs/*"))


def test_a_good_graph_is_loaded_once(classifier: ModelProto, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = classifier.SerializeToString()
    first_load(data, "x.onnx", "onnxruntime")
    assert remembered(cache) == [hashlib.sha256(data).hexdigest() + ".onnxruntime"]
    monkeypatch.setattr(check, "CHILD", ("-c", "raise SystemExit(9)"))
    first_load(data, "x.onnx", "onnxruntime")
    with pytest.raises(BadInput, match="other cannot run it"):
        first_load(data, "x.onnx", "other")


def test_openvino_runs_within_the_limits(classifier: ModelProto) -> None:
    pytest.importorskip("openvino")
    first_load(classifier.SerializeToString(), "x.onnx", "openvino")


def test_our_own_graphs_are_trusted(classifier: ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "CHILD", ("-c", "raise SystemExit(9)"))
    data = classifier.SerializeToString()
    trust(data)
    first_load(data, "x.onnx", "onnxruntime")
    first_load(data, "x.onnx", "openvino")


def test_a_graph_the_runtime_refuses(classifier: ModelProto, cache: Path) -> None:
    """The dims of the last layer do not fit, which the checker alone does not see."""
    model = copy_of(classifier)
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.ones((5, 7), np.float32), "head"))
    data = model.SerializeToString()
    check_graph(data, "x.onnx")
    with pytest.raises(BadInput, match=r"^x\.onnx: onnxruntime cannot run it: .*Gemm") as caught:
        first_load(data, "x.onnx", "onnxruntime")
    assert str(caught.value).isprintable()
    assert remembered(cache) == []


def test_a_graph_that_fails_when_it_runs(classifier: ModelProto) -> None:
    """It loads: which row is gathered is an input, and seven is out of range only when it runs."""
    model = copy_of(classifier)
    model.graph.initializer.append(numpy_helper.from_array(np.array([7], np.int64), "seven"))
    model.graph.input.append(helper.make_tensor_value_info("row", TensorProto.INT64, [1]))
    model.graph.node.append(helper.make_node("Add", ["row", "seven"], ["eighth"]))
    model.graph.node.append(helper.make_node("Gather", ["offset", "eighth"], ["z"]))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1]))
    data = model.SerializeToString()
    with pytest.raises(BadInput, match=r"onnxruntime cannot run it: .*Gather"):
        first_load(data, "x.onnx", "onnxruntime")


def test_open_axes_may_be_too_small_at_one(classifier: ModelProto) -> None:
    model = copy_of(classifier)
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "side"
    del model.graph.node[0].attribute[:]  # no padding: a 3x3 kernel has no place on a 1x1 image
    first_load(model.SerializeToString(), "x.onnx", "onnxruntime")


def test_a_graph_that_asks_for_too_much_memory(classifier: ModelProto) -> None:
    """Every size it declares is small; 8 GiB (twice what the child may have) are asked for only when it runs."""
    model = copy_of(classifier)
    model.graph.input.append(helper.make_tensor_value_info("size", TensorProto.INT64, [2]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**15, 2**16]), "more"))
    model.graph.node.append(helper.make_node("Add", ["size", "more"], ["sum"]))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["sum"], ["huge"]))
    model.graph.node.append(helper.make_node("ReduceSum", ["huge"], ["z"], keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, []))
    with pytest.raises(BadInput, match="onnxruntime cannot run it"):
        first_load(model.SerializeToString(), "x.onnx", "onnxruntime")


def test_an_unknown_runtime_is_named(classifier: ModelProto) -> None:
    with pytest.raises(BadInput, match="unknown 'abacus'"):
        first_load(classifier.SerializeToString(), "x.onnx", "abacus")


@pytest.mark.parametrize(
    ("child", "why"),
    [
        (f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})", "the runtime crashed .signal 11."),
        ("import os; os.abort()", "the runtime crashed .signal 6."),
        ("raise SystemExit(3)", "the runtime failed"),
        ("import sys; print('noise\\n\\x1b[2Jreason', file=sys.stderr); sys.exit(2)", r"cannot run it: \[2Jreason"),
        ("import time; time.sleep(60)", "not done after 0.5 s"),
    ],
    ids=range(5),
)
def test_a_child_that_dies(
    classifier: ModelProto, cache: Path, monkeypatch: pytest.MonkeyPatch, child: str, why: str
) -> None:
    monkeypatch.setattr(check, "CHILD", ("-S", "-c", child))
    if "sleep" in child:
        monkeypatch.setattr(check, "SECONDS", 0.5)
    with pytest.raises(BadInput, match=why):
        first_load(classifier.SerializeToString(), "x.onnx", "onnxruntime")
    assert remembered(cache) == []


def test_no_child_can_be_started(classifier: ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/absent/python")
    with pytest.raises(BadInput, match="no child process can be started"):
        first_load(classifier.SerializeToString(), "x.onnx", "onnxruntime")


def test_nothing_is_imported_from_the_current_folder(
    classifier: ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of downloads may hold an `onnx.py`."""
    (tmp_path / "onnx.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    first_load(classifier.SerializeToString(), "x.onnx", "onnxruntime")


def test_a_cache_that_cannot_be_written_is_no_error(
    classifier: ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SHOESTRING_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(check, "CHILD", ("-S", "-c", ""))
    data = classifier.SerializeToString()
    trust(data)
    first_load(data, "x.onnx", "onnxruntime")
    monkeypatch.setattr(check, "CHILD", ("-S", "-c", "raise SystemExit(9)"))
    with pytest.raises(BadInput, match="the runtime failed"):
        first_load(data, "x.onnx", "onnxruntime")


def test_the_cache_is_in_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SHOESTRING_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    trust(b"graph")
    name = hashlib.sha256(b"graph").hexdigest()
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == [
        os.path.join(".cache", "shoestring", "graphs", name)  # noqa: PTH118  # as text
    ]
