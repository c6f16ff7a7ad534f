"""How a model is made small: one module per step."""
