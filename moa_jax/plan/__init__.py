"""Plan: what a run would train, in which memory and time, on devices that need not be there."""
