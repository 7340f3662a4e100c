"""The same sequential training in PyTorch with torchdiffeq, and weights handed over to it."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torchdiffeq import odeint


class Field(torch.nn.Module):
    """y' = net(y) with one hidden layer of tanh units."""

    def __init__(self, width: int):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(2, width), torch.nn.Tanh(), torch.nn.Linear(width, 2)
        )

    def forward(self, t: Any, y: Any) -> Any:
        return self.net(y)


def from_equinox(mlp: Any) -> Field:
    """The field with the weights of an `equinox.nn.MLP` 2-width-2."""
    field = Field(mlp.width_size).double()
    with torch.no_grad():
        for layer, source in zip((field.net[0], field.net[2]), mlp.layers, strict=True):
            layer.weight.copy_(torch.tensor(np.asarray(source.weight)))
            layer.bias.copy_(torch.tensor(np.asarray(source.bias)))
    return field


def train(
    field: Field,
    ts: np.ndarray,
    ys: np.ndarray,
    start: np.ndarray,
    rates: tuple[float, float],
    l2: float,
    pre_training: int,
    seconds: float,
    every: float,
    record: Callable[[float, Field], None],
) -> None:
    """Adam on the rollout's mean squared error and a ridge penalty, on a fifth of the time first.

    The learning rate is `rates[0]` times 2 to the power of minus steps over `rates[1]`. `record` is
    called about every `every` seconds with the time and the field of the least loss so far.
    """
    # Its decay is added to the gradient: that of l2 times the sum of squares.
    optimizer = torch.optim.Adam(field.parameters(), lr=rates[0], weight_decay=2 * l2)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5 ** (1 / rates[1]))
    times, seen, y0 = torch.tensor(ts), torch.tensor(ys), torch.tensor(start)
    early = int(np.sum(ts <= ts[0] + 0.2 * (ts[-1] - ts[0])))
    best, kept = np.inf, {name: item.clone() for name, item in field.state_dict().items()}
    begin, due, step = time.perf_counter(), 0.0, 0
    while True:
        count = early if step < pre_training else len(ts)
        if step == pre_training:
            best = np.inf
        optimizer.zero_grad()
        ys_now = odeint(field, y0, times[:count], rtol=1e-4, atol=1e-6, method="dopri5")
        loss = torch.sum((ys_now - seen[:count]) ** 2) / count
        size = sum(torch.sum(item.detach() ** 2).item() for item in field.parameters())
        value = loss.item() + l2 * size
        if value < best:
            best = value
            kept = {name: item.clone() for name, item in field.state_dict().items()}
        passed = time.perf_counter() - begin
        if passed >= due:
            snapshot = Field(field.net[0].out_features).double()
            snapshot.load_state_dict(kept)
            record(passed, snapshot)
            due = passed + every
        if passed > seconds:
            break
        loss.backward()
        torch.nn.utils.clip_grad_norm_(field.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        step += 1


def rollout(field: Field, ts: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The trained field's solution, integrated by torchdiffeq as tightly as the others."""
    with torch.no_grad():
        times = torch.tensor(ts)
        ys = odeint(field, torch.tensor(start), times, rtol=1e-8, atol=1e-10, method="dopri5")
    return np.asarray(ys)
