"""What is asked: tasks, suites, metrics, and where their data comes from."""
