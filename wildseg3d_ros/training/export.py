"""Writes a trained network as the file that the masks read."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.masks.learned.inputs import CHANNELS, OFFSETS, STEP
from wildseg3d_ros.training.network import AffinityNetwork, Block

TOLERANCE = 1e-3
"""Of log-odds, between OpenCV and PyTorch."""


def export(network: AffinityNetwork, path: Path) -> None:
    """Writes an ONNX file for inputs of any size, with weights in half precision.

    Batch normalisation becomes part of the convolutions, and the first convolution of pixels in
    blocks of four one of larger steps: OpenCV reads no more than convolutions, ReLU, pooling,
    nearest-neighbour growth and joins.
    """
    network = rounded(network)
    graph = _Graph()
    name, kept = "view", []
    for level, block in enumerate(network.down):
        if level:
            name = graph.add("MaxPool", [name], kernel_shape=[2, 2], strides=[2, 2])
        name = _block(graph, name, block, first=level == 0)
        kept.append(name)
    scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
    for block, before in zip(network.up, kept[-2::-1], strict=True):
        grown = graph.add(
            "Resize", [name, "", scales], mode="nearest", nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )  # fmt: skip
        joined = graph.add("Concat", [grown, before], axis=1)
        name = _block(graph, joined, block)
    name = graph.convolution(name, *_parameters(network.head), stride=1, pad=0)
    part = path.with_suffix(".part")
    onnx.save(graph.model(name), str(part))
    part.rename(path)


def rounded(network: AffinityNetwork) -> AffinityNetwork:
    """The network as its file has it, on the CPU: batch normalisation in the convolutions, and
    weights of half precision."""
    network = copy.deepcopy(network).cpu().float().eval()
    for block in network.modules():
        if isinstance(block, Block):
            for k in (0, 3):
                convolution, norm = block[k], block[k + 1]
                assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
                block[k] = nn.utils.fuse_conv_bn_eval(convolution, norm)
                block[k + 1] = nn.Identity()
    for weights in network.parameters():
        weights.data = weights.data.half().float()
    return network


def check_export(
    network: AffinityNetwork, path: Path, inputs: Iterable[NDArray[np.float32]]
) -> float:
    """The largest difference of log-odds between OpenCV with the file and PyTorch with the same
    weights.

    Args:
        network: what was exported.
        path: the file.
        inputs: (C, H, W), each.

    Raises:
        FileError: it is :data:`TOLERANCE` or more.
    """
    network, net = rounded(network), cv2.dnn.readNetFromONNX(str(path))
    off = []
    for data in inputs:
        net.setInput(data[None])
        with torch.no_grad():
            expected = network(torch.from_numpy(data[None])).numpy()
        off.append(np.abs(net.forward() - expected).max())
    worst = float(np.max(off))
    # Not the other way round: what is no number is no agreement.
    if not worst < TOLERANCE:
        raise FileError(
            f"OpenCV {cv2.__version__} gives log-odds with '{path}' that are {worst:.2g} off "
            f"PyTorch's; less than {TOLERANCE} was expected: install the versions of "
            "packaging/requirements and repeat the command"
        )
    return worst


def _block(graph: _Graph, name: str, block: nn.Module, first: bool = False) -> str:
    assert isinstance(block, Block)
    for k in (0, 3):
        weight, bias = _parameters(block[k])
        if first and k == 0:
            name = graph.convolution(name, _of_pixels(weight), bias, stride=STEP, pad=STEP)
        else:
            name = graph.convolution(name, weight, bias, stride=1, pad=1)
        name = graph.add("Relu", [name])
    return name


def _parameters(convolution: nn.Module) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    weight, bias = convolution.get_parameter("weight"), convolution.get_parameter("bias")
    return weight.detach().numpy(), bias.detach().numpy()


def _of_pixels(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights (n, C, 6, 6) over pixels from those (n, 4 C, 3, 3) over blocks of 2 x 2."""
    n, channels, rows, columns = weight.shape
    blocks = weight.reshape(n, channels // STEP**2, STEP, STEP, rows, columns)
    return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(n, -1, STEP * rows, STEP * columns)


class _Graph:
    """An ONNX graph under construction."""

    def __init__(self) -> None:
        self.nodes: list = []
        self.constants: list = []

    def constant(self, values: NDArray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def add(self, kind: str, inputs: list[str], **attributes) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def convolution(self, name: str, weight: NDArray, bias: NDArray, stride: int, pad: int) -> str:
        halves = [self.constant(values.astype(np.float16)) for values in (weight, bias)]
        weights = [self.add("Cast", [half], to=TensorProto.FLOAT) for half in halves]
        return self.add(
            "Conv", [name, *weights], kernel_shape=list(weight.shape[2:]),
            strides=[stride] * 2, pads=[pad] * 4,
        )  # fmt: skip

    def model(self, output: str) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Identity", [output], ["log_odds"]))
        sizes = ([1, len(CHANNELS), "height", "width"], [1, len(OFFSETS) + 1, "rows", "columns"])
        values = [
            helper.make_tensor_value_info(each, TensorProto.FLOAT, size)
            for each, size in zip(("view", "log_odds"), sizes, strict=True)
        ]
        graph = helper.make_graph(self.nodes, "affinities", values[:1], values[1:], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 8
        onnx.checker.check_model(model)
        return model
