"""The price of answering on rented hardware."""


def compute_usd_per_100m(usd_per_hour: float, throughput: float) -> float:
    """Return the price in USD of 100 million requests at full offline load.

    As in Kim & Hassan (2020), Table 3.

    Args:
        usd_per_hour: the price of the machine.
        throughput: examples per second.
    """
    return usd_per_hour / 3600 / throughput * 1e8
