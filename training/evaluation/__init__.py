"""Quality of a world: measured on held-out clips (`evaluate`), and next to the real game (`compare`).

`clips` gets the truth, `latent` its actions where nobody logged them, `rollout` runs the model on many clips
at once, `metrics` holds the formulas, `measure` puts these together, `report` prints and writes the outcome.
`branches` and `strip` serve `compare`.
"""
