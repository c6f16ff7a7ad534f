"""What answering costs to rent."""


def usd_per_100m(usd_per_hour: float, throughput: float) -> float:
    """US dollars for 100 million requests at full offline load (Kim & Hassan 2020, Table 3).
    throughput: examples per second.
    """
    return usd_per_hour / 3600 / throughput * 1e8
