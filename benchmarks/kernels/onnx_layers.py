"""ONNX Runtime as a contender: graphs of one recurrent operator with the weights of a torch layer.

The graphs are those that torch's exporter makes of a batch-first layer: the operator between two transpositions.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.kernels.cases import Unable

__all__ = ["sequence_runner", "step_runner"]

OPERATORS = {"lstm": ("LSTM", [0, 3, 1, 2]), "gru": ("GRU", [1, 0, 2]), "elman": ("RNN", [0])}
"""ONNX's operator, and its order of torch's gates: i, o, f, c of i, f, g, o; z, r, h of r, z, n."""

OPSET, IR_VERSION = 17, 10
"""Of 2022: what every installed version reads."""


def sequence_runner(cell: str, weights: Mapping[str, Tensor], lengths: Tensor | None) -> Callable[[Tensor], Tensor]:
    """`(B, T, I) -> (B, T, D*H)` over whole sequences.

    Args:
        cell: lstm, gru or elman.
        weights: the state_dict of torch's layer.
        lengths: (B,) real steps, or None when all rows are full.

    Raises:
        Unable: onnx or onnxruntime is not installed.
    """
    onnx = _require("onnx")
    helper = onnx.helper
    varied = lengths is not None
    read = [helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2])]
    write = [
        helper.make_node("Transpose", ["hidden"], ["rows"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["rows", "shape"], ["output"]),
    ]
    node = _operator(helper, cell, weights, [("lengths" if varied else "")], ["hidden"])
    inputs = [_value(onnx, "x", ["B", "T", weights["weight_ih_l0"].shape[1]])]
    if varied:
        inputs.append(helper.make_tensor_value_info("lengths", onnx.TensorProto.INT32, ["B"]))
    constants = [*_constants(onnx, cell, weights), onnx.numpy_helper.from_array(np.array([0, 0, -1]), "shape")]
    session = _session(onnx, [*read, node, *write], inputs, [_value(onnx, "output", ["B", "T", "D"])], constants)
    fixed = {} if lengths is None else {"lengths": lengths.numpy().astype(np.int32)}
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy(), **fixed})[0])


def step_runner(cell: str, weights: Mapping[str, Tensor], batch_size: int) -> Callable[[Tensor], Tensor]:
    """`(B, I) -> (B, H)`, one step at a time; the state stays with the runner.

    Raises:
        Unable: onnx or onnxruntime is not installed.
    """
    onnx = _require("onnx")
    fields = ["h", "c"] if cell == "lstm" else ["h"]
    hidden_size = weights["weight_hh_l0"].shape[1]
    after = [f"{field}_after" for field in fields]
    node = _operator(onnx.helper, cell, weights, ["", *fields], ["", *after])
    inputs = [_value(onnx, "x", [1, "B", weights["weight_ih_l0"].shape[1]])]
    inputs += [_value(onnx, field, [1, "B", hidden_size]) for field in fields]
    outputs = [_value(onnx, field, [1, "B", hidden_size]) for field in after]
    session = _session(onnx, [node], inputs, outputs, _constants(onnx, cell, weights))
    state = {field: np.zeros((1, batch_size, hidden_size), np.float32) for field in fields}

    def step(x: Tensor) -> Tensor:
        new = session.run(None, {"x": x.numpy()[None], **state})
        state.update(zip(fields, new, strict=True))
        return torch.from_numpy(new[0][0])

    return step


def _require(name: str) -> Any:
    for package in (name, "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise Unable(f"{package} is not installed: pip install onnx onnxruntime")
    module = importlib.import_module(name)
    importlib.import_module(f"{name}.helper")
    return module


def _operator(helper: Any, cell: str, weights: Mapping[str, Tensor], inputs: list[str], outputs: list[str]) -> Any:
    """The recurrent operator; `inputs` from the lengths on."""
    name, _ = OPERATORS[cell]
    both = "weight_ih_l0_reverse" in weights
    options: dict[str, Any] = {"hidden_size": weights["weight_hh_l0"].shape[1], "direction": "bidirectional" if both else "forward"}
    if cell == "gru":
        options["linear_before_reset"] = 1
    return helper.make_node(name, ["x" if outputs[0] == "" else "steps", "w", "r", "b", *inputs], outputs, **options)


def _constants(onnx: Any, cell: str, weights: Mapping[str, Tensor]) -> list[Any]:
    """Weights and biases of both directions in ONNX's order of gates."""
    _, order = OPERATORS[cell]
    suffixes = ["l0", "l0_reverse"] if "weight_ih_l0_reverse" in weights else ["l0"]

    def stacked(*names: str) -> Any:
        made = []
        for suffix in suffixes:
            parts = []
            for name in names:
                gates = weights[f"{name}_{suffix}"].chunk(len(order))
                parts += [gates[gate] for gate in order]
            made.append(torch.cat(parts))
        return torch.stack(made).numpy()

    tensors = {"w": stacked("weight_ih"), "r": stacked("weight_hh"), "b": stacked("bias_ih", "bias_hh")}
    return [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]


def _value(onnx: Any, name: str, shape: list[Any]) -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def _session(onnx: Any, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: list[Any]) -> Any:
    import onnxruntime  # type: ignore[import-untyped]

    graph = onnx.helper.make_graph(nodes, "layer", inputs, outputs, constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # Its threads wait busily between operators, as is its default, but not after a run: then the next contender has the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
