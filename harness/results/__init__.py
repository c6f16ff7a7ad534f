"""What a measurement leaves behind: records, and the statistics over them."""
