"""Leaderboard tables and the page, drawn from records alone, without torch."""
