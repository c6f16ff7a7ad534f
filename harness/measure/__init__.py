"""How well a system answers: the driver, its worker, and what both leave in records."""
