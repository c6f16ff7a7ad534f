"""What the steps that train share: the loop, the data, the losses, checkpoints."""
