"""What is read from the machine: energy, hardware, and the fixed configurations."""
