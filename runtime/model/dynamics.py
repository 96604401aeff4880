"""The dynamics (Bruce et al. 2024, section 2.1): which tokens come next, given past tokens and actions."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from genie_rt.kernels.vq_lookup.reference import lookup_code
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.transformer import KeysValues, STTransformer, position_grid

NULL_ACTION = -1
"""The action of a first frame, which nothing led to; and of a clip whose action was dropped in training."""

UNDECIDED = -1
"""The token of a place that is still to be decided (MASK), and the previous token of a first frame."""


class Dynamics(nn.Module):
    """ST transformer over token embeddings, with the action added at the frame that it leads to.

    The codebook belongs to the tokenizer: every call that needs it takes the `table` made from it once by
    `token_table`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dynamics, tokenizer = config.dynamics, config.tokenizer
        self.config = config
        width, slots = dynamics.transformer.width, dynamics.merge**2
        rows, columns = (side // dynamics.merge for side in tokenizer.grid)
        embedding = dynamics.embedding_dim
        self.code_in = (
            nn.Linear(tokenizer.codebook_dim, embedding, bias=False) if dynamics.tie_codebook else None
        )
        start = torch.zeros if dynamics.tie_codebook else torch.randn
        self.token_embedding = nn.Parameter(start(tokenizer.codebook_size, embedding))
        self.mask_embedding = nn.Parameter(torch.zeros(embedding))
        self.token_in = nn.Linear(slots * embedding, width, bias=False)
        self.previous_in = (
            nn.Linear(slots * embedding, width, bias=False) if dynamics.previous_token else None
        )
        self.position = nn.Parameter(position_grid(rows, columns, width))
        self.action_embedding = nn.Parameter(torch.randn(dynamics.num_actions + 1, width))  # last: null
        self.transformer = STTransformer(dynamics.transformer)
        self.token_out = nn.Linear(width, slots * embedding, bias=False)
        self.copy_out = nn.Linear(width, slots, bias=False) if dynamics.copy_logit else None
        self.copy_logit = nn.Parameter(torch.ones(())) if dynamics.copy_logit else None
        if not self.position.is_meta:
            self._initialise()

    def _initialise(self) -> None:
        """Starts the logits near 1 and the copy gate at 0."""
        if self.copy_out is not None:
            nn.init.zeros_(self.copy_out.weight)
        if self.code_in is not None:
            nn.init.normal_(self.code_in.weight)  # codes are unit vectors: the table starts near 1
        for layer in (self.token_in, self.previous_in, self.token_out):
            if layer is not None:
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)  # logits start near 1, not 0

    def token_table(self, codebook: Tensor) -> Tensor:
        """The vector of every token, for input and output alike: `[V, d]` codebook to `[V, E]`."""
        if self.code_in is None:
            return self.token_embedding
        codes = lookup_code(torch.arange(codebook.shape[0], device=codebook.device), codebook)
        return self.token_embedding + self.code_in(codes)

    def _merge(self, x: Tensor) -> Tensor:
        """`[B, T, N, E]` to `[B, T, P, merge^2 * E]`."""
        rows, columns = self.config.tokenizer.grid
        m = self.config.dynamics.merge
        x = x.unflatten(2, (rows // m, m, columns // m, m)).transpose(3, 4)
        return x.flatten(4).flatten(2, 3)

    def _split(self, x: Tensor) -> Tensor:
        """`[B, T, P, merge^2 * E]` to `[B, T, N, E]`; the inverse of `_merge`."""
        rows, columns = self.config.tokenizer.grid
        m = self.config.dynamics.merge
        x = x.unflatten(3, (m, m, -1)).unflatten(2, (rows // m, columns // m)).transpose(3, 4)
        return x.flatten(2, 5)

    def embed(self, tokens: Tensor, previous: Tensor, actions: Tensor, table: Tensor) -> Tensor:
        """Inputs of the transformer.

        Args:
            tokens: `[B, T, N]` int64, `UNDECIDED` where a token is masked.
            previous: `[B, T, N]` int64, each place's token in the frame before; read only at masked places,
                `UNDECIDED` where there is none.
            actions: `[B, T]` int64, the action that led to each frame, or `NULL_ACTION`.
            table: `[V, E]` from `token_table`.

        Returns:
            `[B, T, P, D]`.
        """
        masked = (tokens == UNDECIDED)[..., None]
        vectors = torch.where(masked, self.mask_embedding, table[tokens.clamp(min=0)])
        x = self.token_in(self._merge(vectors))
        if self.previous_in is not None:
            seen = masked & (previous != UNDECIDED)[..., None]
            before = self._merge(table[previous.clamp(min=0)] * seen)
            x = x + self.previous_in(before)
        action = self.action_embedding[actions]  # NULL_ACTION = -1 picks the last row
        return x + self.position + action[:, :, None]

    def logits(self, hidden: Tensor, previous: Tensor, table: Tensor) -> Tensor:
        """Scores of every token: `[B, T, P, D]` to `[B, T, N, V]`, in at least fp32."""
        copy = None
        if self.copy_out is not None:
            copy = self._split(self.copy_out(hidden))
        vectors = self._split(self.token_out(hidden))
        return self._score(vectors, copy, previous, table)

    def logits_at(self, hidden: Tensor, places: Tensor, previous: Tensor, table: Tensor) -> Tensor:
        """Scores at some places only.

        Args:
            hidden: `[B, Q, D]`, states of any `Q` positions.
            places: `[B or 1, n]` int64: entry `q * merge^2 + slot` for a token of the `q`-th of them.
            previous: `[B, n]` int64, the tokens of the frame before at these places.

        Returns:
            `[B, n, V]`.
        """

        def take(x: Tensor) -> Tensor:
            x = x.unflatten(-1, (self.config.dynamics.merge**2, -1)).flatten(1, 2)  # [B, Q * merge^2, ...]
            return x.take_along_dim(places[..., None], 1) if len(places) > 1 else x.index_select(1, places[0])

        copy = None if self.copy_out is None else take(self.copy_out(hidden))
        vectors = take(self.token_out(hidden))
        return self._score(vectors, copy, previous, table)

    def _score(self, vectors: Tensor, copy: Tensor | None, previous: Tensor, table: Tensor) -> Tensor:
        """Vectors `[..., E]` against all tokens', and the copy logit `[..., 1]` on the previous ones."""
        wide = torch.promote_types(vectors.dtype, torch.float32)
        scores = linear(vectors, table.to(vectors.dtype)).to(wide) * table.shape[1] ** -0.5
        if copy is None or self.copy_logit is None:
            return scores
        raised = (copy.to(wide) + self.copy_logit) * (previous != UNDECIDED)[..., None]
        return scores.scatter_add_(-1, previous.clamp(min=0)[..., None], raised)

    def forward(
        self,
        tokens: Tensor,
        previous: Tensor,
        actions: Tensor,
        table: Tensor,
        ages: Tensor,
        history: list[KeysValues] | None = None,
    ) -> tuple[Tensor, list[KeysValues]]:
        """Hidden states `[B, T, P, D]` and per layer the keys and values of these frames.

        A past frame is given with all its tokens decided; its keys and values then do not depend on
        `previous`, which is why they may be kept. See `embed` and `STTransformer.forward` for the arguments.
        """
        return self.transformer(self.embed(tokens, previous, actions, table), ages, history)


def previous_frame(tokens: Tensor) -> Tensor:
    """Each frame's predecessor: `[B, T, N]` to `[B, T, N]`, `UNDECIDED` at the first frame."""
    return torch.cat([torch.full_like(tokens[:, :1], UNDECIDED), tokens[:, :-1]], 1)
