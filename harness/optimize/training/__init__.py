"""What the training steps share: the loop, the data, the losses, checkpoints."""
