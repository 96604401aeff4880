"""Quality of a world: measured on held-out clips (`evaluate`), and next to the real game (`compare`).

`clips` gets the truth, `latent` its actions where nobody logged them, `rollout` runs the model on many clips
at once, `metrics` and `intervals` hold the formulas, `measure` puts these together, `report` prints and
writes the outcome.

Further sections, each a module with its measure and its table, are put together by `sections`: `realism`
(clip distance and `fvd`), `codes`, `effects` (action consistency), `true_branches` and `plays` (beside the
real game, from the moments of `starts`), `drift`. `displacement` tells how far a scene moved, `scripts`
what is played.
`branches` and `strip` serve `compare`.
"""
