"""Models and their text processing: what training and serving share."""
