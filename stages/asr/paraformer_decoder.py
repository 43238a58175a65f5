"""Paraformer's SAN-M decoder: all tokens at once, from their acoustic embeddings and the encoder.
Parameter names as in FunASR's checkpoints (`ParaformerSANMDecoder`).

Source: Gao et al., Paraformer (Interspeech 2022), section 3; Gao et al., SAN-M (2020).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from stages.sanm import NORM_EPSILON, Memory, attend, by_head, mask


@dataclass(frozen=True)
class DecoderSizes:
    """Sizes under FunASR's names; the first `att_layer_num` of `num_blocks` layers attend to
    the encoder. `vocab_size` 0: neither embedding nor output layer."""

    size: int
    vocab_size: int
    attention_heads: int
    linear_units: int
    num_blocks: int
    att_layer_num: int
    kernel_size: int
    sanm_shift: int = 0

    @classmethod
    def from_yaml(cls, decoder: Mapping[str, Any], size: int, vocab_size: int) -> DecoderSizes:
        """From a `decoder_conf` of config.yaml. KeyError where a key is missing."""
        kernel, shift = decoder["kernel_size"], decoder.get("sanm_shfit", 0)
        return cls(
            size=size,
            vocab_size=vocab_size,
            attention_heads=decoder["attention_heads"],
            linear_units=decoder["linear_units"],
            num_blocks=decoder["num_blocks"],
            att_layer_num=decoder["att_layer_num"],
            kernel_size=kernel,
            sanm_shift=(kernel - 1) // 2 if shift is None else shift,
        )


class ParaformerDecoder(nn.Module):
    """A row's result depends neither on its padding nor on that of what it attends to."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        attending, more = sizes.att_layer_num, sizes.num_blocks - sizes.att_layer_num
        if sizes.vocab_size:
            self.embed = nn.Sequential(nn.Embedding(sizes.vocab_size, sizes.size))
            self.output_layer = nn.Linear(sizes.size, sizes.vocab_size)
        self.decoders = nn.ModuleList(
            DecoderLayer(sizes, remembers=True, attends=True) for _ in range(attending)
        )
        self.decoders2 = nn.ModuleList(
            DecoderLayer(sizes, remembers=True, attends=False) for _ in range(more)
        )
        self.decoders3 = nn.ModuleList([DecoderLayer(sizes, remembers=False, attends=False)])
        self.after_norm = nn.LayerNorm(sizes.size, eps=NORM_EPSILON)

    def forward(self, x: Tensor, counts: Tensor, memory: Tensor, lengths: Tensor) -> Tensor:
        """x [B, K, D], counts [B]; memory [B, T, D], lengths [B] -> hidden [B, K, D]."""
        keep, heard = mask(counts, x.shape[1]), mask(lengths, memory.shape[1])
        for layer in (*self.decoders, *self.decoders2, *self.decoders3):
            x = layer(x, keep, memory, heard)
        hidden: Tensor = self.after_norm(x)
        return hidden

    def attention(self, x: Tensor, counts: Tensor, memory: Tensor, lengths: Tensor) -> Tensor:
        """How much each row attends to each part of its memory in the last attending layer,
        over its heads and tokens: float32 [B, T]."""
        keep, heard = mask(counts, x.shape[1]), mask(lengths, memory.shape[1])
        *earlier, last = self.decoders
        for layer in earlier:
            x = layer(x, keep, memory, heard)
        assert isinstance(last, DecoderLayer)
        weights = last.attention(x, keep, memory, heard)
        return (weights * keep[:, None, :, None]).sum(dim=(1, 2))


class DecoderLayer(nn.Module):
    """Feed-forward; then, where the layer has them, a memory over the tokens, added to what came
    in, and attention to the encoder, added to that."""

    def __init__(self, sizes: DecoderSizes, *, remembers: bool, attends: bool) -> None:
        super().__init__()
        size = sizes.size
        self.remembers, self.attends = remembers, attends
        self.norm1 = nn.LayerNorm(size, eps=NORM_EPSILON)
        self.feed_forward = NormedFeedForward(size, sizes.linear_units)
        if remembers:
            self.norm2 = nn.LayerNorm(size, eps=NORM_EPSILON)
            self.self_attn = Memory(size, sizes.kernel_size, sizes.sanm_shift if attends else 0)
        if attends:
            self.norm3 = nn.LayerNorm(size, eps=NORM_EPSILON)
            self.src_attn = CrossAttention(size, sizes.attention_heads)

    def forward(self, x: Tensor, keep: Tensor, memory: Tensor, heard: Tensor) -> Tensor:
        """x [B, K, D], keep bool [B, K]; memory [B, T, D], heard bool [B, T] -> [B, K, D]."""
        x = self.remember(x, keep)
        return x + self.src_attn(self.norm3(x), memory, heard) if self.attends else x

    def attention(self, x: Tensor, keep: Tensor, memory: Tensor, heard: Tensor) -> Tensor:
        """How each token attends to the memory: float32 [B, heads, K, T]."""
        return self.src_attn.weights(self.norm3(self.remember(x, keep)), memory, heard)

    def remember(self, x: Tensor, keep: Tensor) -> Tensor:
        """What comes before the attention."""
        forward: Tensor = self.feed_forward(self.norm1(x))
        if not self.remembers:
            return forward
        return x + self.self_attn.remember(self.norm2(forward), keep)


class CrossAttention(nn.Module):
    """Multi-head attention of tokens to a memory."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear_q = nn.Linear(size, size)
        self.linear_k_v = nn.Linear(size, 2 * size)
        self.linear_out = nn.Linear(size, size)

    def forward(self, x: Tensor, memory: Tensor, heard: Tensor) -> Tensor:
        """x [B, K, D], memory [B, T, D], heard bool [B, T] -> [B, K, D]."""
        key, value = self.linear_k_v(memory).chunk(2, dim=-1)
        out: Tensor = self.linear_out(attend(self.linear_q(x), key, value, heard, self.heads))
        return out

    def weights(self, x: Tensor, memory: Tensor, heard: Tensor) -> Tensor:
        """The attention itself: float32 [B, heads, K, T]."""
        query = by_head(self.linear_q(x), self.heads)
        key = by_head(self.linear_k_v(memory).chunk(2, dim=-1)[0], self.heads)
        scores = (query @ key.transpose(2, 3)).float() * query.shape[-1] ** -0.5
        shares: Tensor = scores.masked_fill(~heard[:, None, None, :], -math.inf).softmax(dim=-1)
        return shares


class NormedFeedForward(nn.Module):
    """Two linear layers with a ReLU and a normalisation between them."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.w_1 = nn.Linear(size, hidden)
        self.norm = nn.LayerNorm(hidden, eps=NORM_EPSILON)
        self.w_2 = nn.Linear(hidden, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w_2(self.norm(self.w_1(x).relu_()))
        return out
