"""Sensitivities of the small network against what one gets by hand: fits by NumPy, graphs put together and run here."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, helper, numpy_helper

from shoestring.compress import int8, structured_conv
from shoestring.compress.reconstruct import rounding
from shoestring.compress.reconstruct.layer import coded, damping
from shoestring.compress.reconstruct.moments import Moments
from shoestring.compress.reconstruct.pruning import ways
from shoestring.compress.structured_conv.loss import residual
from shoestring.compress.structured_conv.settings import Kept, Structured
from shoestring.compress.structured_conv.shape import Shape
from shoestring.core.pattern import BlockPattern
from shoestring.deploy.weights import weights, with_weights
from shoestring.pipeline import sensitivity
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import EightBit, calibrate
from shoestring.pipeline.sensitivity import LEVELS, Loss, Sensitivity, Trial, between, sensitivities

STEM, DEPTHWISE, PROJECT, LAST = "stem.0", "blocks.0.depthwise.0", "blocks.0.project.0", "classifier"
FOUR = BlockPattern(4, 1)
ROUNDED = 0.01  # of a loss; moments are products of float32
Data = list[np.ndarray]
Fit = tuple[np.ndarray, np.ndarray]  # weight [groups, outputs, width], bias [outputs]


@pytest.fixture(scope="module")
def network(original: Original, inputs: Data) -> EightBit:
    """With ranges that hold what is judged, too."""
    return calibrate(original.graph, inputs, int8.precisions(original.of_kinds(int8.CARD.kinds)))


@pytest.fixture
def fitted(inputs: Data) -> Data:
    return inputs[4:10]


@pytest.fixture
def judged(inputs: Data) -> Data:
    return inputs[10:]


@pytest.fixture
def find(network: EightBit, fitted: Data, judged: Data) -> Callable[..., dict[str, Sensitivity]]:
    def run(trials: dict[str, Trial], network: EightBit = network, **how: object) -> dict[str, Sensitivity]:
        return sensitivities(network, trials, fitted, judged, **how)

    return run


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets an entry for each layer that is fitted from now on."""
    seen: list[int] = []

    def of(batches: object, made: Callable = Moments.of) -> Moments:
        seen.append(len(seen))
        return made(batches)

    monkeypatch.setattr(Moments, "of", of)
    return seen


def run(graph: ModelProto, inputs: Sequence[np.ndarray], tensors: Sequence[str] = ()) -> list[Data]:
    """Of each input the `tensors`, or what the graph writes."""
    shown = ModelProto()
    shown.CopyFrom(graph)
    known = {value.name for value in shown.graph.output}
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors if name not in known)
    session = onnxruntime.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    return [session.run(list(tensors) or None, {shown.graph.input[0].name: value}) for value in inputs]


def squares(graph: ModelProto, original: ModelProto, judged: Data) -> np.ndarray:
    """Of relative errors, by input."""
    ours, theirs = (np.concatenate([one for (one,) in run(side, judged)]).astype(float) for side in (graph, original))
    return ((ours - theirs) ** 2).sum(1) / (theirs**2).sum(1)


def check(found: Loss, errors: np.ndarray, within: float = ROUNDED) -> None:
    """The mean and its standard error."""
    assert found.value == pytest.approx(max(0.0, errors.mean()), rel=within, abs=1e-9)
    assert found.noise == pytest.approx(errors.std(ddof=1) / len(errors) ** 0.5, rel=within, abs=1e-9)


def node_of(graph: ModelProto, name: str) -> tuple[NodeProto, dict[str, object]]:
    node = next(node for node in graph.graph.node if node.name == name)
    return node, {one.name: helper.get_attribute_value(one) for one in node.attribute}


class Hand:
    """A layer's `x` [groups, positions, width] as `follower` has it, `y` [groups, positions, outputs] and `weight` as
    `leader` has them, and fits of it."""

    def __init__(self, leader: ModelProto, name: str, fitted: Data, follower: ModelProto | None = None):
        node, how = node_of(leader, name)
        self.groups, whole = int(how.get("group", 1)), weights(leader)[name].astype(float)
        reads = [value.astype(float) for (value,) in run(follower or leader, fitted, [node.input[0]])]
        writes = [value.astype(float) for (value,) in run(leader, fitted, [node.output[0]])]
        self.x = np.concatenate([self._patches(value, whole.shape[2:], how) for value in reads], 1)
        self.y = np.concatenate([self._split(np.moveaxis(value[0], 0, -1)) for value in writes], 1)
        self.weight = whole.reshape(self.groups, len(whole) // self.groups, -1)
        self.shape = whole.shape
        self.ridge = damping(len(fitted)) * self.x.var(1).mean(1)

    def _split(self, rows: np.ndarray) -> np.ndarray:
        """[..., channels] to [groups, positions, channels of one]."""
        return rows.reshape(-1, self.groups, rows.shape[-1] // self.groups).swapaxes(0, 1)

    def _patches(self, value: np.ndarray, kernel: tuple[int, ...], how: dict) -> np.ndarray:
        if not kernel:
            return value[None]
        pad, step = how.get("pads", [0] * 4), how.get("strides", [1, 1])
        wide = np.pad(value[0], ((0, 0), (pad[0], pad[2]), (pad[1], pad[3])))
        seen = np.lib.stride_tricks.sliding_window_view(wide, kernel, (1, 2))[:, :: step[0], :: step[1]]
        return self._split(np.moveaxis(seen, 0, 2).reshape(*seen.shape[1:3], -1))

    def hessian(self) -> np.ndarray:
        centred = self.x - self.x.mean(1, keepdims=True)
        ridges = self.ridge[:, None, None] * np.eye(self.x.shape[2])
        return centred.swapaxes(1, 2) @ centred / self.x.shape[1] + ridges

    def fit(self, bases: Callable[[int, int], np.ndarray]) -> Fit:
        """Damped least squares, with the rows of the weight in the span of the columns of `bases(group, row)`."""
        found = np.zeros_like(self.weight)
        for group, row in np.ndindex(found.shape[:2]):
            basis = bases(group, row)
            x, y = (side - side.mean(0) for side in (self.x[group], self.y[group, :, row]))
            root, count = self.ridge[group] ** 0.5, len(x) ** 0.5
            left = np.concatenate([x @ basis / count, root * basis])
            right = np.concatenate([y / count, root * self.weight[group, row]])
            found[group, row] = basis @ np.linalg.lstsq(left, right, rcond=None)[0]
        return found, self.bias(found)

    def whole(self) -> Fit:
        return self.fit(lambda group, row: np.eye(self.x.shape[2]))

    def bias(self, weight: np.ndarray) -> np.ndarray:
        return (self.y.mean(1) - (weight * self.x.mean(1)[:, None]).sum(2)).ravel()

    def keep(self, level: int) -> np.ndarray:
        """Which weights stay, by surgery of blocks."""
        target, taps = torch.from_numpy(self.whole()[0]), int(np.prod(self.shape[2:]))
        gone = int(level * self.weight.size / 100)
        return ways(torch.from_numpy(self.hessian()), target, taps, FOUR).keep(gone).numpy()

    def zeros(self, level: int) -> Fit:
        keep, one = self.keep(level), np.eye(self.x.shape[2])
        return self.fit(lambda group, row: one[:, keep[group, row]])

    def boxes(self) -> Fit:
        """Kernels of 3x3 that are sums of boxes of 2x2."""
        box = np.zeros((2, 2, 3, 3))
        for i, j in np.ndindex(2, 2):
            box[i, j, i : i + 2, j : j + 2] = 1
        return self.fit(lambda group, row: np.kron(np.eye(self.shape[1]), box.reshape(4, 9).T))

    def codes(self, bits: int) -> tuple[np.ndarray, np.ndarray]:
        """Codes [outputs, ...] and steps [outputs]."""
        target = torch.from_numpy(self.whole()[0])
        every = torch.ones_like(target, dtype=torch.bool)
        found, steps = coded(torch.from_numpy(self.hessian()), target, target, every, rounding.Codes(bits))
        return found.numpy().reshape(self.shape), steps.numpy().ravel()


def put(
    graph: ModelProto,
    name: str,
    weight: np.ndarray,
    bias: np.ndarray,
    scales: np.ndarray | None = None,
    wide: np.ndarray | None = None,
) -> ModelProto:
    """With another weight and bias in the places of a layer's; in those of a quantised one codes with `scales`, and
    with `wide` scales those of the bias."""
    result = ModelProto()
    result.CopyFrom(graph)
    node, how = node_of(result, name)
    assert node.op_type == "Conv" or how.get("transB") == 1, "outputs first"
    makers = {made.output[0]: made for made in result.graph.node if made.op_type == "DequantizeLinear"}
    places = makers[node.input[1]].input[:2] if scales is not None else [node.input[1]]
    for place, value in zip(places, (weight, scales), strict=False):
        tensor = next(one for one in result.graph.initializer if one.name == place)
        before = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(value.astype(before.dtype).reshape(before.shape), place))
    node.input[:] = [*node.input[:2], "by hand"]
    kind, given = (np.int32, "by hand, codes") if wide is not None else (np.float32, "by hand")
    result.graph.initializer.append(numpy_helper.from_array(bias.astype(kind), given))
    if wide is not None:
        result.graph.initializer.append(numpy_helper.from_array(wide.astype(np.float32), "by hand, scale"))
        made = helper.make_node("DequantizeLinear", [given, "by hand, scale"], ["by hand"], axis=0)
        result.graph.node.insert(0, made)
    return result


def constants(graph: ModelProto, name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Codes [outputs, ...] and scales of a quantised layer, and the scale of what it reads."""
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    makers = {made.output[0]: made for made in graph.graph.node}
    node, _ = node_of(graph, name)
    codes, scales = (known[tensor] for tensor in makers[node.input[1]].input[:2])
    return codes.astype(float), scales.astype(float), float(known[makers[node.input[0]].input[1]])


def quantised(hand: Hand, graph: ModelProto, name: str, bits: int) -> ModelProto:
    """With 8 bits the codes as they are, with fewer those of least error, in the upper bits of their bytes; and the
    bias that suits them."""
    codes, scales, reads = constants(graph, name)
    if bits < 8:
        low, steps = hand.codes(bits)
        codes, scales = low * 2 ** (7 - bits), steps / 2 ** (7 - bits)
    values = (codes * scales.reshape(-1, *[1] * (codes.ndim - 1))).reshape(hand.weight.shape)
    wide = np.float32(reads) * scales.astype(np.float32)
    return put(graph, name, codes, np.rint(hand.bias(values) / wide), scales, wide)


def floats(graph: ModelProto, name: str, fit: Fit) -> ModelProto:
    return put(graph, name, *fit)


def test_zeros(find, network: EightBit, fitted: Data, judged: Data) -> None:
    """More zeros, more loss, each as by hand; the layers in the order of the graph."""
    found = find(dict.fromkeys((PROJECT, STEM), Trial(FOUR)))
    assert list(found) == [STEM, PROJECT]
    for name, own in found.items():
        assert own.bits == own.shapes == {}
        assert list(own.zeros) == list(LEVELS)
        values = [loss.value for loss in own.zeros.values()]
        assert values == sorted(values)
        hand = Hand(network.graph, name, fitted)
        for level in (30, 80):
            fit = hand.zeros(level)
            assert FOUR.sparsity(fit[0].reshape(hand.shape)) == pytest.approx(level / 100, abs=0.05)  # whole blocks
            check(own.zeros[level], squares(floats(network.graph, name, fit), network.graph, judged))


def test_no_zeros_no_loss(find, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitivity, "LEVELS", (0, 95))
    for own in find(dict.fromkeys((STEM, PROJECT, LAST), Trial(FOUR))).values():
        assert own.zeros[0].value < 1e-9 < own.zeros[95].value


@pytest.mark.parametrize("name", [STEM, DEPTHWISE, PROJECT, LAST])
def test_bits(name: str, find, network: EightBit, fitted: Data, judged: Data) -> None:
    (own,) = find({name: Trial(bits=(8, 4))}).values()
    hand, built = Hand(network.graph, name, fitted), network.build({name})
    assert list(own.bits) == [8, 4]
    assert 0 < own.bits[8].value < own.bits[4].value
    for bits, loss in own.bits.items():
        check(
            loss, squares(quantised(hand, built, name, bits), network.graph, judged), within=0.03
        )  # steps of the bias


@pytest.mark.parametrize("name", [STEM, DEPTHWISE])
def test_shapes(name: str, find, network: EightBit, fitted: Data, judged: Data, monkeypatch) -> None:
    """The best weight of those that decompose exactly: nearer than the projected one."""
    put_in: list[np.ndarray] = []

    def watched(graph: ModelProto, values: dict[str, np.ndarray], biases: dict[str, np.ndarray]) -> ModelProto:
        put_in.append(values[name])
        return with_weights(graph, values, biases)

    monkeypatch.setattr(sensitivity, "with_weights", watched)
    (own,) = find({name: Trial(shapes=(structured_conv.parse("n=2"),))}).values()
    hand = Hand(network.graph, name, fitted)
    assert list(own.shapes) == ["structured:n=2"]
    check(own.shapes["structured:n=2"], squares(floats(network.graph, name, hand.boxes()), network.graph, judged))
    (weight,) = put_in
    assert residual(torch.from_numpy(weight).double(), Shape.of(weight.shape, None, 2)) < 1e-6  # of float32
    layer = torch.nn.Conv2d(weight.shape[1], len(weight), 3)
    layer.weight.data = torch.from_numpy(weights(network.graph)[name].copy())
    projected = with_weights(network.graph, {name: structured_conv.project(layer, n=2).numpy()})
    assert own.shapes["structured:n=2"].value < squares(projected, network.graph, judged).mean()


def test_fewer_channels(find, network: EightBit, fitted: Data, judged: Data) -> None:
    """Weights of sums over windows of 9 of the 16 channels."""
    setting = Structured(Kept(c=0.5))
    (own,) = find({PROJECT: Trial(shapes=(setting,))}).values()
    box = np.array([[float(j <= i < j + 9) for j in range(8)] for i in range(16)])
    fit = Hand(network.graph, PROJECT, fitted).fit(lambda group, row: box)
    check(own.shapes[str(setting)], squares(floats(network.graph, PROJECT, fit), network.graph, judged))


def test_one_judged_input_has_no_noise(network: EightBit, fitted: Data, judged: Data) -> None:
    (own,) = sensitivities(network, {LAST: Trial(bits=(8,))}, fitted, judged[:1]).values()
    assert own.bits[8].value > 0
    assert own.bits[8].noise == 0


@pytest.fixture
def others(network: EightBit) -> ModelProto:
    """The network with many weights of one layer gone, which moves all that comes behind."""
    return with_weights(network.graph, {DEPTHWISE: 0.3 * weights(network.graph)[DEPTHWISE]})


def test_around_a_plan(find, network: EightBit, fitted: Data, judged: Data, others: ModelProto) -> None:
    """What comes on top of what the layer as it was does among the others, fitted to what those make of the inputs."""
    trial = Trial(FOUR, (8,))
    (own,) = find({PROJECT: trial}, around=others).values()
    hand = Hand(network.graph, PROJECT, fitted, others)
    before = squares(floats(others, PROJECT, hand.whole()), network.graph, judged)
    assert before.mean() > 1e-4
    for level in (30, 95):
        after = squares(floats(others, PROJECT, hand.zeros(level)), network.graph, judged)
        check(own.zeros[level], after - before, within=0.05)
    built = quantised(hand, replace(network, graph=others).build({PROJECT}), PROJECT, 8)
    check(own.bits[8], squares(built, network.graph, judged) - before, within=0.05)
    assert own != find({PROJECT: trial})[PROJECT]


def test_no_loss_is_negative(find, network: EightBit, others: ModelProto) -> None:
    every = find(dict.fromkeys((STEM, DEPTHWISE, PROJECT, LAST), Trial(FOUR, (8, 4))), around=others)
    losses = [loss.value for own in every.values() for loss in (*own.zeros.values(), *own.bits.values())]
    assert min(losses) >= 0


def test_around_the_network_itself(find, network: EightBit) -> None:
    """Nothing was there before."""
    trial = {PROJECT: Trial(FOUR, (8,))}
    alone, same = find(trial)[PROJECT], find(trial, around=network.graph)[PROJECT]
    for level in LEVELS:
        assert same.zeros[level].value == pytest.approx(alone.zeros[level].value, rel=1e-3)


def test_known_losses_are_not_measured_again(find, fits: list[int]) -> None:
    trials = dict.fromkeys((STEM, PROJECT), Trial(FOUR, (8, 4), (structured_conv.parse("n=2"),)))
    trials[PROJECT] = replace(trials[PROJECT], shapes=())
    shares: list[float] = []
    found = find(trials, report=shares.append)
    assert shares == [0, 0.5, 1]
    assert len(fits) == 2
    assert find(trials) == found
    assert len(fits) == 2


def test_a_stopped_run_goes_on(find, network: EightBit, fits: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    trials, of = dict.fromkeys(network.precisions, Trial(bits=(8,))), Moments.of

    def stopped(batches: object) -> Moments:
        if len(fits) == 2:
            raise KeyboardInterrupt
        return of(batches)

    with monkeypatch.context() as patch:
        patch.setattr(Moments, "of", stopped)
        with pytest.raises(KeyboardInterrupt):
            find(trials)
    found = find(trials)
    assert len(fits) == len(trials)
    assert found.keys() == trials.keys()


DAMAGED = ["", "{", "[]", "null", "{}", '{"zeros": {}, "bits": {"8": 1}, "shapes": {}}',
           '{"zeros": {}, "bits": {"eight": {"value": 0.1}}, "shapes": {}}']  # fmt: skip


def test_damaged_entries_are_measured_again(find, fits: list[int], cache: Path) -> None:
    trials = {LAST: Trial(bits=(8,))}
    found = find(trials)
    (entry,) = (cache / "sensitivities").iterdir()
    for number, text in enumerate(DAMAGED):
        entry.write_text(text)
        assert find(trials) == found
        assert len(fits) == 2 + number


def test_whatever_matters_has_a_name_of_its_own(network: EightBit, fitted: Data, judged: Data, cache: Path) -> None:
    name, trial = LAST, Trial(bits=(8,))
    moved = with_weights(network.graph, {PROJECT: 2 * weights(network.graph)[PROJECT]})
    edges = {edge: replace(seen, high=2 * seen.high) for edge, seen in network.histograms.items()}
    ways = [
        (network, trial, fitted, judged, None),
        (network, Trial(bits=(8, 4)), fitted, judged, None),
        (network, trial, fitted[1:], judged, None),
        (network, trial, fitted, [2 * judged[0], *judged[1:]], None),
        (network, trial, fitted[:-1], [fitted[-1], *judged], None),
        (replace(network, graph=moved), trial, fitted, judged, None),
        (replace(network, rule="percentile"), trial, fitted, judged, None),
        (replace(network, histograms=edges), trial, fitted, judged, None),
        (network, trial, fitted, judged, moved),
    ]
    for number, (subject, asked, fit_on, held, around) in enumerate(ways):
        sensitivities(subject, {name: asked}, fit_on, held, around=around)
        assert len(list((cache / "sensitivities").iterdir())) == number + 1, number


def test_layers_that_nobody_asks_for(find, fits: list[int]) -> None:
    assert find({"blocks.0": Trial(FOUR)}) == {}
    assert fits == []


def test_shares_between_those_that_were_measured() -> None:
    found = {15: Loss(0.01, 0.001), 50: Loss(0.04, 0.003), 80: Loss(0.64, 0.003)}
    assert between(found, 50) == Loss(pytest.approx(0.04), pytest.approx(0.003))
    assert between(found, 32.5) == Loss(pytest.approx(0.02), pytest.approx(0.002))  # half way: the geometric mean
    assert between(found, 65).value == pytest.approx(0.16)
    assert between(found, 95).value == pytest.approx(0.64)
    assert between(found, 7.5) == Loss(pytest.approx(0.01 / 4), pytest.approx(0.001 / 4))  # below: as squares do
    assert between(found, 0) == Loss(0, 0)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.tuples(st.floats(0, 100), st.floats(0, 100)))
def test_more_zeros_never_lose_less(values: list[float], levels: tuple[float, float]) -> None:
    """Whatever was measured."""
    found = dict(zip(LEVELS, map(Loss, values), strict=False))
    low, high = (between(found, level).value for level in sorted(levels))
    assert 0 <= low <= high + 1e-12
    assert high <= max(*values, 1e-12) * (1 + 1e-9)
