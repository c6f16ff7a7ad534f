"""Models, tokenization and features, shared by training and serving."""
