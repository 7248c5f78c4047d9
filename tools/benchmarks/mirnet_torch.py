"""MIRNet in plain PyTorch, with the names of the published weights: the side `mirnet` compares with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def _convolution(channels: int, filters: int, size: int) -> nn.Conv2d:
    return nn.Conv2d(channels, filters, size, padding=size // 2, bias=False)


class SpatialAttention(nn.Module):
    """A mask for each place from the largest and the mean channel."""

    def __init__(self):
        super().__init__()
        self.spatial = nn.ModuleDict({"conv": _convolution(2, 1, 5)})

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> the same."""
        pooled = torch.cat([y.amax(1, keepdim=True), y.mean(1, keepdim=True)], 1)
        return y * torch.sigmoid(self.spatial["conv"](pooled))


class ChannelAttention(nn.Module):
    """A factor for each channel from the mean over all places."""

    def __init__(self, channels: int):
        super().__init__()
        squeezed = channels // 8
        self.conv_du = nn.Sequential(
            _convolution(channels, squeezed, 1),
            nn.ReLU(inplace=True),
            _convolution(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> the same."""
        return y * self.conv_du(y.mean((2, 3), keepdim=True))


class DAU(nn.Module):
    """Dual attention unit."""

    def __init__(self, channels: int, act: nn.Module):
        super().__init__()
        self.body = nn.Sequential(_convolution(channels, channels, 3), act, _convolution(channels, channels, 3))
        self.SA, self.CA = SpatialAttention(), ChannelAttention(channels)
        self.conv1x1 = _convolution(2 * channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> the same."""
        y = self.body(x)
        return self.conv1x1(torch.cat([self.SA(y), self.CA(y)], 1)) + x


class SKFF(nn.Module):
    """Selective kernel feature fusion."""

    def __init__(self, channels: int, branches: int):
        super().__init__()
        squeezed = max(channels // 8, 4)
        self.conv_du = nn.Sequential(_convolution(channels, squeezed, 1), nn.PReLU())
        self.fcs = nn.ModuleList(_convolution(squeezed, channels, 1) for _ in range(branches))

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Branches of [B, C, H, W] -> [B, C, H, W]."""
        descriptor = self.conv_du(sum(features).mean((2, 3), keepdim=True))
        shares = torch.softmax(torch.stack([layer(descriptor) for layer in self.fcs]), 0)
        return sum(feature * share for feature, share in zip(features, shares, strict=True))


class Blur(nn.Module):
    """[1, 2, 1] x [1, 2, 1] / 16, every second place, the border reflected."""

    def __init__(self, channels: int):
        super().__init__()
        taps = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("filt", (torch.outer(taps, taps) / 16).repeat(channels, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, C, H / 2, W / 2]."""
        return functional.conv2d(functional.pad(x, (1, 1, 1, 1), "reflect"), self.filt, stride=2, groups=x.shape[1])


class Resample(nn.Module):
    """A residual step down or up by two; `top` and `bot` are its two ways."""

    def __init__(self, top: list[nn.Module], bot: list[nn.Module]):
        super().__init__()
        self.top, self.bot = nn.Sequential(*top), nn.Sequential(*bot)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> half or double sides."""
        return self.top(x) + self.bot(x)


def _halve(c: int) -> Resample:
    top = [_convolution(c, c, 1), nn.PReLU(), _convolution(c, c, 3), nn.PReLU(), Blur(c), _convolution(c, 2 * c, 1)]
    return Resample(top, [Blur(c), _convolution(c, 2 * c, 1)])


def _double(c: int) -> Resample:
    transposed = nn.ConvTranspose2d(c, c, 3, stride=2, padding=1, output_padding=1, bias=False)
    top = [_convolution(c, c, 1), nn.PReLU(), transposed, nn.PReLU(), _convolution(c, c // 2, 1)]
    return Resample(
        top, [nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), _convolution(c, c // 2, 1)]
    )


class Chain(nn.Module):
    """Steps one after the other."""

    def __init__(self, steps: list[nn.Module]):
        super().__init__()
        self.body = nn.Sequential(*steps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Runs them."""
        return self.body(x)


class MSRB(nn.Module):
    """Multi-scale residual block: three streams, two runs."""

    def __init__(self, channels: int, act: nn.Module, height: int = 3, width: int = 2):
        super().__init__()
        widths = [channels << stream for stream in range(height)]
        self.widths = widths
        # One unit a stream, listed once for each run.
        self.blocks = nn.ModuleList(nn.ModuleList([DAU(count, act)] * width) for count in widths)
        self.selective_kernel = nn.ModuleList(SKFF(count, height) for count in widths)
        self.down, self.up, self.last_up = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for low in range(height):
            for high in range(low + 1, height):
                key = 1 << (high - low)
                self.down[f"{widths[low]}_{key}"] = Chain([_halve(widths[i]) for i in range(low, high)])
                self.up[f"{widths[high]}_{key}"] = Chain([_double(widths[i]) for i in range(high, low, -1)])
        for stream in range(1, height):
            self.last_up[f"{stream}"] = Chain([_double(widths[i]) for i in range(stream, 0, -1)])
        self.conv_out = _convolution(channels, channels, 3)

    def _resample(self, feature: torch.Tensor, of: int, to: int) -> torch.Tensor:
        if of == to:
            return feature
        return (self.down if of < to else self.up)[f"{self.widths[of]}_{1 << abs(of - to)}"](feature)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> the same."""
        streams: list[torch.Tensor] = []
        for index, runs in enumerate(self.blocks):
            streams.append(runs[0](self._resample(streams[-1], index - 1, index) if index else x))
        count = range(len(streams))
        for run in range(1, len(self.blocks[0])):
            fused = [self.selective_kernel[to]([self._resample(streams[of], of, to) for of in count]) for to in count]
            streams = [runs[run](feature) for runs, feature in zip(self.blocks, fused, strict=True)]
        full = [self.last_up[f"{index}"](stream) if index else stream for index, stream in enumerate(streams)]
        return self.conv_out(self.selective_kernel[0](full)) + x


class RRG(nn.Module):
    """Recursive residual group."""

    def __init__(self, channels: int, act: nn.Module, blocks: int = 2):
        super().__init__()
        self.body = nn.Sequential(*[MSRB(channels, act) for _ in range(blocks)], _convolution(channels, channels, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> the same."""
        return self.body(x) + x


class MIRNet(nn.Module):
    """The network in its published size; sides are multiples of 4."""

    def __init__(self, channels: int = 64, groups: int = 3):
        super().__init__()
        act = nn.PReLU()  # one slope for all dual attention units
        self.conv_in, self.conv_out = _convolution(3, channels, 3), _convolution(channels, 3, 3)
        self.body = nn.Sequential(*[RRG(channels, act) for _ in range(groups)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] -> the same."""
        return x + self.conv_out(self.body(self.conv_in(x)))


def load_weights(network: MIRNet, model: Any) -> None:
    """Gives a network the weights of ours, by the table that imports published ones the other way."""
    from tfllv.models import torch_import

    entries = torch_import.mirnet_tensors(model)

    def tensor(name: str) -> torch.Tensor:
        entry = entries[name]
        if isinstance(entry, torch_import.Copy):
            return tensor(entry.of)
        if isinstance(entry, torch_import.Constant):
            return torch.from_numpy(entry.value)
        value = entry.variable.numpy().transpose(np.argsort(entry.axes))
        return torch.from_numpy(np.ascontiguousarray(value))

    network.load_state_dict({name: tensor(name) for name in entries}, strict=True)
    count = sum(parameter.numel() for parameter in network.parameters())
    if count != model.count_params():
        raise ValueError(f"`network` must have the {model.count_params()} parameters of `model`. Received: {count}.")


def forward_sides(network: MIRNet, model: Any, image: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """The eager network in both precisions: [1, H, W, 3] in and out."""
    load_weights(network, model)
    network.eval()
    half = copy.deepcopy(network).to(torch.bfloat16)

    def call(which: MIRNet, kind: torch.dtype) -> np.ndarray:
        with torch.inference_mode():
            result = which(torch.from_numpy(image).permute(0, 3, 1, 2).contiguous().to(kind))
        return result.float().permute(0, 2, 3, 1).numpy()

    return {
        "torch eager": lambda: call(network, torch.float32),
        "torch eager bfloat16": lambda: call(half, torch.bfloat16),
    }


def training_side(network: MIRNet, model: Any, picture: np.ndarray, rate: float) -> dict[str, Callable[[], float]]:
    """The eager training step on one pair; the dark picture is 0.3 of the bright one."""
    load_weights(network, model)
    network.train()
    adam = torch.optim.Adam(network.parameters(), lr=rate)
    truth = torch.from_numpy(picture).permute(0, 3, 1, 2).contiguous()

    def call() -> float:
        adam.zero_grad(set_to_none=True)
        loss = torch.sqrt((network(0.3 * truth) - truth).square() + 1e-6).mean() - 1e-3
        loss.backward()
        adam.step()
        return loss.item()

    return {"torch eager": call}
