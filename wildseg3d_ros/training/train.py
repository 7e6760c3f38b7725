"""Trains the affinity network; a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.training.loss import network_loss
from wildseg3d_ros.training.network import AffinityNetwork
from wildseg3d_ros.training.samples import Samples

CHECKPOINT, CURVE = "checkpoint.pt", "curve.jsonl"


@dataclass(frozen=True)
class Schedule:
    """How long and how to train.

    Attributes:
        steps: of gradient descent.
        batch: views in each.
        rate: largest learning rate; it falls to 0 as a cosine.
        seed: of the network and of all variation.
        every: steps between two checkpoints.
        start: checkpoint of another training, whose weights this one begins with; "" = random.
    """

    steps: int = 10000
    batch: int = 8
    rate: float = 2e-3
    seed: int = 0
    every: int = 250
    start: str = ""


def train(
    paths: Sequence[Path],
    schedule: Schedule,
    folder: Path,
    device: str = "cpu",
    workers: int = 1,
) -> AffinityNetwork:
    """Trains on the frames, and goes on from the folder's checkpoint where there is one.

    Args:
        paths: of frames.
        schedule: how to train.
        folder: of the checkpoint and the curve of the losses.
        device: "cpu" or "cuda".
        workers: processes that load and vary views; the batches are the same with any number.

    Returns:
        The trained network, in evaluation mode.

    Raises:
        FileError: the checkpoint is of another schedule, is not whole, or cannot be written.
    """
    torch.manual_seed(schedule.seed)
    network = AffinityNetwork()
    network.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(network.parameters(), lr=schedule.rate, weight_decay=1e-2)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: _rate(k, schedule))
    start = _resume(folder, schedule, network, optimizer, rates, device)
    samples = Samples(paths, schedule.batch, schedule.steps, schedule.seed)
    loader = DataLoader(
        samples, batch_size=None, sampler=range(start, schedule.steps), num_workers=workers,
        prefetch_factor=4,
    )  # fmt: skip
    network.train()
    total, began = torch.zeros(0), time.time()
    for step, (data, labels) in enumerate(loader, start=start + 1):
        with torch.autocast(device, torch.bfloat16):
            output = network(data.to(device, memory_format=torch.channels_last))
        losses = network_loss(output.float(), labels.to(device))
        optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rates.step()
        kept = losses.detach().cpu()
        total = kept + total if len(total) else kept
        if step % schedule.every == 0 or step == schedule.steps:
            mean = total / (step - start - (step - start - 1) // schedule.every * schedule.every)
            _note(folder, step, mean, time.time() - began)
            total = torch.zeros(0)
            _save(folder, step, schedule, network, optimizer, rates)
    return network.eval()


def _rate(step: int, schedule: Schedule) -> float:
    """Share of the largest rate: rises over 200 steps, then falls as a cosine."""
    rise = min(1.0, (step + 1) / 200)
    fall = torch.cos(torch.tensor(torch.pi / 2 * min(step / schedule.steps, 1.0))) ** 2
    return rise * float(fall)


def _save(folder: Path, step: int, schedule: Schedule, *parts) -> None:
    states = [part.state_dict() for part in parts]
    part = folder / (CHECKPOINT + ".part")
    try:
        torch.save({"step": step, "schedule": asdict(schedule), "states": states}, part)
        part.rename(folder / CHECKPOINT)
    # PyTorch's own writer raises RuntimeError where a disk is full.
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        raise FileError(
            f"cannot write the checkpoint '{folder / CHECKPOINT}': {error}; make room there and "
            "repeat the command, which goes on from the checkpoint before"
        ) from error


def _resume(folder: Path, schedule: Schedule, *parts_and_device) -> int:
    """The step to go on from."""
    *parts, device = parts_and_device
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CHECKPOINT
    if not path.exists():
        if schedule.start:
            begin_with(Path(schedule.start), parts[0], device)
        return 0
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
        wanted = asdict(schedule)
        given = {"start": "", **stored["schedule"]}
        if given != wanted:
            names = [name for name in wanted if given.get(name) != wanted[name]]
            raise FileError(
                f"'{path}' was trained with "
                + ", ".join(f"{name} {given.get(name)}" for name in names)
                + ", this is with "
                + ", ".join(f"{name} {wanted[name]}" for name in names)
                + ": give what it was trained with to go on, take another folder, or remove it "
                "to begin anew"
            )
        for part, state in zip(parts, stored["states"], strict=True):
            part.load_state_dict(state)
        return stored["step"]
    except (
        OSError,
        RuntimeError,
        ValueError,
        KeyError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        raise FileError(
            f"'{path}' is no checkpoint of this network ({error}): remove it to begin anew, or "
            "take another folder"
        ) from error


def begin_with(path: Path, network: AffinityNetwork, device: str) -> None:
    """Gives the network the weights of another training.

    Raises:
        FileError: there is no such checkpoint.
    """
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
        network.load_state_dict(stored["states"][0])
    # What a file of another kind raises depends on where PyTorch gives up.
    except Exception as error:
        raise FileError(
            f"cannot begin with the weights in '{path}' ({error}): give the {CHECKPOINT} of a "
            "training by this command"
        ) from error


def _note(folder: Path, step: int, losses: torch.Tensor, seconds: float) -> None:
    row = {"step": step, "loss": float(losses.mean()), "losses": losses.tolist()}
    with (folder / CURVE).open("a") as file:
        file.write(json.dumps(row | {"seconds": round(seconds, 1)}) + "\n")
    print(f"step {step}: loss {row['loss']:.4f}, {seconds:.0f} s", flush=True)
