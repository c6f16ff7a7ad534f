"""How an artifact answers: one module per engine."""
