"""Side by side with the peers, and with what the machine can do: `python -m benchmarks`."""
