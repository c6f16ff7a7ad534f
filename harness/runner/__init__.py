"""Sessions: blocks of rounds, and the records that they leave."""
