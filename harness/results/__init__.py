"""The record of a measurement, and the statistics of times and scores."""
