"""Loss terms and what weighs them."""
