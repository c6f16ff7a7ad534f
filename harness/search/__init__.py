"""The fastest model for a task that keeps enough of its teacher's score."""
