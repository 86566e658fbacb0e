"""The hand: its model in MANO's layout, and the differentiable layer that poses it."""
