"""The benchmark for GPUs, dry on the processor: what it counts, writes and survives."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def gpu():
    """The modules of a folder that is no installed package."""
    added = [str(ROOT), str(ROOT / "packaging")]
    sys.path[:0] = added
    try:
        import bench_gpu

        from benchmarks.gpu import __main__ as command
        from benchmarks.gpu import measuring, networks
    finally:
        for each in added:
            sys.path.remove(each)
    return command, measuring, networks, bench_gpu


@pytest.fixture(scope="module")
def rates(gpu):
    _, measuring, _, _ = gpu
    return measuring.measure_rates(measuring.Device(torch.device("cpu"), 1), 64, 1)


def test_operations_are_those_of_torch_by_type(gpu):
    """The transformer in bfloat16 and the heads in float32 are all that torch counts."""
    _, measuring, networks, _ = gpu
    from wildseg3d_ros.pointmaps.da3.network import DepthAnything3, set_backbone_type
    from wildseg3d_testing.da3_weights import TINY

    device = measuring.Device(torch.device("cpu"), 1)
    network = networks.random_weights(DepthAnything3, TINY, device)
    set_backbone_type(network, torch.bfloat16)
    images = [torch.zeros(3, 28, 42), torch.zeros(3, 28, 42)]
    with torch.inference_mode():
        with FlopCounterMode(display=False) as reference:
            network(images)
        with measuring.Operations() as counted:
            network(images)
    assert sum(counted.by_type.values()) == reference.get_total_flops() > 0
    assert min(counted.by_type[torch.bfloat16], counted.by_type[torch.float32]) > 0


def test_floor_is_operations_over_the_rate_of_their_type(gpu):
    _, measuring, _, _ = gpu
    rates = measuring.Rates({torch.bfloat16: 4e12, torch.float32: 1e12}, 1.0, 1.0)
    with measuring.Operations() as counted:
        torch.mm(torch.zeros(10, 20), torch.zeros(20, 30))
        torch.mm(torch.zeros(10, 20).bfloat16(), torch.zeros(20, 30).bfloat16())
    assert rates.seconds(counted.by_type) == pytest.approx(12000 / 1e12 + 12000 / 4e12)


def test_all_parts_run_and_are_written(gpu, rates, tmp_path):
    """What takes part in the table at published sizes takes part in the dry run."""
    command, measuring, _, _ = gpu
    device = measuring.Device(torch.device("cpu"), 1)
    assert list(command.small()) == list(command.published())
    files = []
    assert not command.run(device, command.small(), rates, 1e6, files.append)
    assert len(files) == len(command.small())
    figures = files[-1]["figures"]
    assert all(f["seconds"] > 0 and f["peak"] is None for f in figures)
    floors = {f["name"].split(",")[0].split()[0]: f["floor"] for f in figures if f["floor"]}
    assert {"Depth", "MASt3R", "SAM", "fusion"} <= set(floors)
    # Small networks are far from what a matrix product reaches.
    assert all(f["times the floor"] > 1 for f in figures if f["floor"])
    json.dumps(files[-1])
    table = command.markdown(device.figures)
    assert len(table.splitlines()) == 2 + len(figures)


def test_a_part_that_fails_or_comes_too_late_is_named(gpu, rates, capsys):
    command, measuring, _, _ = gpu
    device, files = measuring.Device(torch.device("cpu"), 1), []

    def broken(*_):
        raise RuntimeError("no kernel")

    def quick(device, rates):
        device.measure("quick", lambda: torch.ones(2, 2) @ torch.ones(2, 2), rates)

    missing = command.run(device, {"a": broken, "b": quick}, rates, 1e6, files.append)
    assert missing == {"a": "RuntimeError: no kernel"}
    assert [f["name"] for f in files[-1]["figures"]] == ["quick"]
    assert "not begun" in command.run(device, {"a": quick}, rates, -1.0, files.append)["a"]
    assert "Traceback" in capsys.readouterr().err


def test_wheels_are_unpacked_once_and_missing_ones_are_named(gpu, tmp_path):
    *_, bench_gpu = gpu
    with pytest.raises(SystemExit, match="make gpu-wheels"):
        bench_gpu.unpack(tmp_path, tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "some-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some/__init__.py", "value = 1\n")
    bench_gpu.unpack(tmp_path, tmp_path / "out")
    module = tmp_path / "out" / "some" / "__init__.py"
    assert module.read_text() == "value = 1\n"
    module.write_text("kept\n")
    bench_gpu.unpack(tmp_path, tmp_path / "out")
    assert module.read_text() == "kept\n"
