"""Whether a submission answers as it was measured to answer, and from the text."""
