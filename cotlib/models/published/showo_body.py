"""A picture's way through Show-o's transformer on a GPU, with one kernel between projection and attention.

Phi as transformers writes it norms queries and keys, turns them and joins keys and values with the text's in many passes
over memory. Here `qknorm_rope_kv` does all of that in one, and writes keys and values where attention reads them: behind
the text's. Projections and feed-forward layers are called, not read, so that whatever was put into them (adapters, packed
weights) is used.

The same numbers as Phi's own way up to rounding. In half precision it rounds less: Phi rounds after the norm and turns
by rounded cosines, the kernel computes in float32 and rounds what it stores.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cotlib.kernels.qknorm_rope_kv import qknorm_rope_kv


def suits(phi: nn.Module) -> bool:
    """Whether the kernel computes what this PhiForCausalLM does: normalised queries and keys, as many heads of both,
    attention by torch ("sdpa"), no dropout."""
    c = phi.config
    return (c.qk_layernorm and c.num_key_value_heads == c.num_attention_heads
            and c._attn_implementation == "sdpa" and not phi.training)  # fmt: skip


def angles(rotary: nn.Module, places: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines float32 [L, pairs] of Phi's rotary embedding at the places, long [L]."""
    turn = places[:, None].float() * rotary.inv_freq.float()
    return turn.cos() * rotary.attention_scaling, turn.sin() * rotary.attention_scaling


@torch.no_grad()
def picture_states(
    phi: nn.Module, ids: Tensor, places: Tensor, keys: list[Tensor], values: list[Tensor], seen: Tensor | None = None,
    kernel: bool = True,
) -> Tensor:  # fmt: skip
    """Final hidden states [B, L, D] of a picture's part of the sequence, which sees the text and all of itself.

    ids: long [B, L]; places: long [L], their positions; keys, values: the text's, one [B, H, T, Dh] per layer; seen: bool
    [B, 1, 1, T + L], what may be seen, everything unless given; kernel: as in `qknorm_rope_kv`.
    """
    x, rotary, text = phi.model.embed_tokens(ids), angles(phi.model.rotary_emb, places), keys[0].shape[2]
    for layer, *before in zip(phi.model.layers, keys, values, strict=True):
        attention, h = layer.self_attn, layer.input_layernorm(x)
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        q, k, v = (project(h).unflatten(-1, (-1, attention.head_dim)) for project in parts)  # [B, L, H, Dh]
        norms = ((norm.weight, norm.bias) for norm in (attention.q_layernorm, attention.k_layernorm))
        caches = [_room_behind(part, q) for part in before]
        eps = attention.q_layernorm.eps
        q = qknorm_rope_kv(q, k, v, *norms, rotary, *caches, text, eps, kernel=kernel)
        attended = F.scaled_dot_product_attention(q, *caches, attn_mask=seen, scale=attention.scaling)
        x = attention.dense(attended.transpose(1, 2).flatten(2)) + layer.mlp(h) + x
    return phi.model.final_layernorm(x)


def _room_behind(text: Tensor, q: Tensor) -> Tensor:
    """The text's keys or values [B, H, T, Dh] with room for the picture's behind them, [B, H, T + L, Dh]."""
    batch, heads, count, d = text.shape
    room = torch.empty(batch, heads, count + q.shape[1], d, dtype=q.dtype, device=q.device)
    room[:, :, :count] = text
    return room
