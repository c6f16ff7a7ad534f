"""The load generator: query samples and traffic patterns; it knows only texts and times."""
