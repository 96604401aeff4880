"""Tables of a run that is measured alone."""

import io

from rich.console import Console

from genie_rt.runtime.action_health import ActionHealth
from genie_rt.training.evaluation.runs import health_table


def test_every_share_is_shown_in_a_terminal_of_80_columns() -> None:
    shares = (0.151, 0.126, 0.138, 0.097, 0.098, 0.155, 0.095, 0.14)
    health = ActionHealth(
        true_db=23.0,
        shuffled_db=17.2,
        none_db=19.0,
        copy_db=16.5,
        shares=shares,
        code_cosine=0.33,
        effect_likeness=0.5,
    )
    shown = io.StringIO()
    Console(file=shown, width=80).print(health_table(health, 1000))
    assert "…" not in shown.getvalue()
    assert all(f"{share:.1%}" in shown.getvalue() for share in shares)
