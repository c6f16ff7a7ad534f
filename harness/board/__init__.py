"""What people look at: rendered from records alone, on a machine without torch."""
