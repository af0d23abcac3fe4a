"""Folding: a network as it is deployed, with batch norms inside the layers before them and no-ops gone."""

import copy
from typing import Any

from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.nn.utils.parametrize import is_parametrized

_DROPOUTS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout}


def fold(gm: fx.GraphModule) -> fx.GraphModule:
    """A copy of `gm` in eval mode without dropout and identity, each batch norm folded into the convolution or linear
    layer right before it (arXiv 1712.05877, equation 14).

    A batch norm stays where something else reads the layer too, where the layer or its weight is used twice, where the
    weight is parametrized, and where it has no running statistics. The folded layer keeps its name.
    """
    gm = copy.deepcopy(gm).eval()
    _remove_no_ops(gm)
    for node in list(gm.graph.nodes):
        if foldable(gm, node):
            layer = node.all_input_nodes[0]
            gm.set_submodule(str(layer.target), _fused(_module(gm, layer), _module(gm, node)))
            node.replace_all_uses_with(layer)
            gm.graph.erase_node(node)
    gm.graph.lint()
    gm.recompile()
    gm.delete_all_unused_submodules()
    return gm


def _remove_no_ops(gm: fx.GraphModule) -> None:
    for node in list(gm.graph.nodes):
        if isinstance(_module(gm, node), nn.Identity | _DropoutNd) or _is_idle_dropout(node):
            node.replace_all_uses_with(node.all_input_nodes[0])
            gm.graph.erase_node(node)


def _is_idle_dropout(node: fx.Node) -> bool:
    """A call such as F.dropout(x, p, self.training), traced in eval mode; F.dropout(x) always drops, and stays."""
    if node.op != "call_function" or node.target not in _DROPOUTS:
        return False
    return (node.args[2] if len(node.args) > 2 else node.kwargs.get("training", True)) is False


def foldable(gm: fx.GraphModule, node: fx.Node) -> bool:
    """True when `node` is a batch norm that can go into the layer right before it (see `fold`)."""
    norm, source = _module(gm, node), node.args[0] if node.args else None
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None or not isinstance(source, fx.Node):
        return False
    layer = _module(gm, source)
    if not isinstance(layer, _ConvNd | nn.Linear) or is_parametrized(layer):
        return False
    if isinstance(layer, nn.Linear) and not _is_matrix(source):
        return False
    if isinstance(layer, _ConvTransposeNd) and layer.groups > 1:
        return False  # torch's fusion takes the output channels for all on one axis
    return len(source.users) == 1 and _uses(gm, str(source.target)) == 1


def _is_matrix(node: fx.Node) -> bool:
    """True when the result is known to be [B, features]; of [B, T, C], batch norm scales the T, not the features."""
    meta = node.meta.get("tensor_meta")
    return meta is not None and len(meta.shape) == 2


def _uses(gm: fx.GraphModule, path: str) -> int:
    """How many nodes call the module at `path` or read a tensor of it."""
    targets = [str(node.target) for node in gm.graph.nodes if node.op in ("call_module", "get_attr")]
    return sum(target == path or target.startswith(f"{path}.") for target in targets)


def _fused(layer: Any, norm: Any) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return fuse_linear_bn_eval(layer, norm)
    return fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, _ConvTransposeNd))


def _module(gm: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return gm.get_submodule(str(node.target)) if node.op == "call_module" else None
